//! Messages as real programs send them.

/// What wrk sends: 76 bytes.
pub(crate) const WRK: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-Run: steady-state-run1\r\n\r\n";

/// What a browser sends: 13 fields, about 700 bytes.
pub(crate) const BROWSER: &[u8] = b"GET /articles/2026/11/how-to-balance?page=2&sort=newest HTTP/1.1\r\n\
Host: www.example.com\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: navigate\r\n\
Referer: https://www.example.com/articles/2026/11/\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Cookie: session=0d8f5b2c9a7e4f1688b3c1d2e5f60718; theme=dark; seen=3\r\n\
\r\n";

/// An upload with a body of `len` bytes.
pub(crate) fn post(len: usize) -> Vec<u8> {
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n\r\n"
    );
    [head.as_bytes(), &vec![b'x'; len]].concat()
}

/// What nginx answers, with a body of `len` bytes.
pub(crate) fn nginx(len: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 13:45:59 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {len}\r\nConnection: keep-alive\r\n\
         ETag: \"6740b5c7-80\"\r\n\r\n"
    );
    [head.as_bytes(), &vec![b'x'; len]].concat()
}

/// What nginx answers when it does not know the length: `count` chunks of `len` bytes.
pub(crate) fn chunked(count: usize, len: usize) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 13:45:59 GMT\r\n\
                Content-Type: text/html\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
    [head.as_bytes(), &chunks(count, len)].concat()
}

/// A chunked body.
pub(crate) fn chunks(count: usize, len: usize) -> Vec<u8> {
    let chunk = [format!("{len:x}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat();
    [&chunk.repeat(count)[..], b"0\r\n\r\n"].concat()
}
