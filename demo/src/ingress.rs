//! The client of the story: one HTTP request, like curl, to a host that the demo's resolver finds.
//!
//! Owns the URL, the lookup, the connection and what is printed. Its failures are kinds with curl's exit codes, so that
//! scripts can tell them apart. Redirects are not followed; `https` is refused.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long a resolver may take for one question, of which there are at most two.
const LOOKUP: Duration = Duration::from_secs(5);

/// Why a request did not bring a whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A scheme other than http. Exit code 1.
    Scheme(String),
    /// Not a URL that can be asked for. Exit code 3.
    Url(String),
    /// The host has no address that we could find. Exit code 6.
    Resolve(String),
    /// None of the host's addresses takes the connection. Exit code 7.
    Connect(String),
    /// A whole response of status 400 or more. Exit code 22.
    Status(String),
    /// Our own output is not taken. Exit code 23.
    Write(String),
    /// It took longer than it may. Exit code 28.
    Time(String),
    /// The server closed without a response. Exit code 52.
    Empty(String),
    /// The response broke off, or is none. Exit code 56.
    Receive(String),
}

impl Failure {
    /// The exit code, as curl's.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Scheme(_) => 1,
            Failure::Url(_) => 3,
            Failure::Resolve(_) => 6,
            Failure::Connect(_) => 7,
            Failure::Status(_) => 22,
            Failure::Write(_) => 23,
            Failure::Time(_) => 28,
            Failure::Empty(_) => 52,
            Failure::Receive(_) => 56,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Scheme(why)
        | Failure::Url(why)
        | Failure::Resolve(why)
        | Failure::Connect(why)
        | Failure::Status(why)
        | Failure::Write(why)
        | Failure::Time(why)
        | Failure::Empty(why)
        | Failure::Receive(why)) = self;
        f.write_str(why)
    }
}

/// Where a request goes: an `http` URL, whose scheme may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Without brackets.
    host: String,
    port: u16,
    /// What the field Host says: the host, and the port if it is given.
    authority: HeaderValue,
    /// Path and query; at least `/`.
    target: Uri,
}

impl FromStr for Url {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Url, Failure> {
        let wrong = |why: &str| Failure::Url(format!("`{text}` is not a URL: {why}"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(Failure::Scheme(format!(
                "`{scheme}` is not spoken here: the demo has no TLS, use http://{rest}"
            )));
        }
        let uri: Uri =
            format!("http://{rest}").parse().map_err(|error| wrong(&format!("{error}")))?;
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user and a password are not sent; use -H 'Authorization: ...'"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Url {
            host: host.to_owned(),
            port: port_of(authority.as_str(), authority.port_u16()).map_err(wrong)?,
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_| wrong("its host is not ASCII"))?,
            target: target.parse().map_err(|_| wrong("its path cannot be sent"))?,
        })
    }
}

/// A port that is no number is no port at all to `Uri`, and must not become 80.
fn port_of(authority: &str, parsed: Option<u16>) -> Result<u16, &'static str> {
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    match (after_host.rsplit_once(':'), parsed) {
        (None, _) => Ok(80),
        (Some(_), Some(port)) if port > 0 => Ok(port),
        _ => Err("its port is not a number from 1 to 65535"),
    }
}

/// A header field, `Name: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    name: HeaderName,
    value: HeaderValue,
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Field, String> {
        let (name, value) = text.split_once(':').ok_or("expected `Name: value`")?;
        Ok(Field {
            name: name.trim().parse().map_err(|_| format!("`{name}` is not a field's name"))?,
            value: value.trim().parse().map_err(|_| format!("`{value}` cannot be sent"))?,
        })
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Default: GET, or POST with a body.
    pub method: Option<Method>,
    /// Take the place of those that are sent by themselves.
    pub fields: Vec<Field>,
    /// Sent as JSON unless a field says otherwise.
    pub body: Option<String>,
    /// Where it goes.
    pub url: Url,
    /// Who is asked for the host's addresses.
    pub resolver: SocketAddr,
    /// For everything together.
    pub max_time: Duration,
    /// The status line and the fields are printed before the body.
    pub include: bool,
}

impl Ask {
    /// Sends the request, and prints the response to `out` as it comes.
    ///
    /// # Errors
    /// As [`Failure`] tells them apart; a status of 400 or more is one, after the whole body is printed.
    pub async fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let (max_time, host) = (self.max_time, self.url.host.clone());
        match tokio::time::timeout(max_time, self.exchange(out)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Time(format!("{host}: no whole response in {max_time:?}"))),
        }
    }

    async fn exchange(self, out: &mut impl Write) -> Result<(), Failure> {
        let addresses = addresses(&self.url, self.resolver).await?;
        let stream = connect(&self.url, &addresses).await?;
        let include = self.include;
        let mut response = send(stream, self.request()?).await?;
        if include {
            print_head(&response, out).map_err(|error| not_taken(&error))?;
        }
        print_body(&mut response, out).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(Failure::Status(status.to_string()));
        }
        Ok(())
    }

    fn request(self) -> Result<Request<Full<Bytes>>, Failure> {
        let default = if self.body.is_some() { Method::POST } else { Method::GET };
        let has_body = self.body.is_some();
        let body = Full::new(Bytes::from(self.body.unwrap_or_default()));
        let mut request = Request::new(body);
        *request.method_mut() = self.method.unwrap_or(default);
        *request.uri_mut() = self.url.target;
        *request.headers_mut() = fields(self.url.authority, has_body, self.fields);
        Ok(request)
    }
}

/// Those that are sent by themselves, and the given ones, which win.
fn fields(authority: HeaderValue, has_body: bool, given: Vec<Field>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for field in given {
        fields.append(field.name, field.value);
    }
    let mut own = vec![
        (HOST, authority),
        (USER_AGENT, HeaderValue::from_static("ingress-client")),
        (ACCEPT, HeaderValue::from_static("*/*")),
    ];
    if has_body {
        own.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    }
    for (name, value) in own {
        fields.entry(name).or_insert(value);
    }
    fields
}

/// The host itself if it is an address; otherwise what the resolver says.
async fn addresses(url: &Url, resolver: SocketAddr) -> Result<Vec<IpAddr>, Failure> {
    if let Ok(address) = url.host.parse() {
        return Ok(vec![address]);
    }
    let failed = |why: &dyn fmt::Display| {
        Failure::Resolve(format!("could not resolve {} by {resolver}: {why}", url.host))
    };
    let dns = resolver_at(resolver).map_err(|error| failed(&error))?;
    // The last dot: the name is whole, and not looked for in other domains.
    let name = format!("{}.", url.host.trim_end_matches('.'));
    let found = dns.lookup_ip(name).await.map_err(|error| failed(&error))?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() {
        return Err(failed(&"it has no address"));
    }
    Ok(addresses)
}

fn resolver_at(
    server: SocketAddr,
) -> Result<Resolver<TokioRuntimeProvider>, hickory_resolver::net::NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::new());
    let options = builder.options_mut();
    options.timeout = LOOKUP;
    options.attempts = 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.os_port_selection = true;
    builder.build()
}

async fn connect(url: &Url, addresses: &[IpAddr]) -> Result<TcpStream, Failure> {
    let mut why = Vec::new();
    for &address in addresses {
        let address = SocketAddr::new(address, url.port);
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => why.push(format!("{address}: {error}")),
        }
    }
    Err(Failure::Connect(format!("could not connect to {}: {}", url.host, why.join("; "))))
}

async fn send(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failure> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| broken(&error))
}

fn broken(error: &hyper::Error) -> Failure {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Failure::Empty("the server closed the connection without a response".to_owned())
    } else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        Failure::Receive(format!("{error}{}", cause.unwrap_or_default()))
    }
}

fn not_taken(error: &io::Error) -> Failure {
    Failure::Write(format!("cannot write the response: {error}"))
}

fn print_head(response: &Response<Incoming>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:?} {}", response.version(), response.status())?;
    for (name, value) in response.headers() {
        write!(out, "{name}: ")?;
        out.write_all(value.as_bytes())?;
        writeln!(out)?;
    }
    writeln!(out)
}

async fn print_body(
    response: &mut Response<Incoming>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut last = None;
    while let Some(frame) = response.body_mut().frame().await {
        let frame =
            frame.map_err(|error| Failure::Receive(format!("the response broke off: {error}")))?;
        if let Some(data) = frame.data_ref() {
            out.write_all(data).map_err(|error| not_taken(&error))?;
            last = data.last().copied().or(last);
        }
    }
    // A prompt should not stand behind the last line.
    if last.is_some_and(|byte| byte != b'\n') {
        writeln!(out).map_err(|error| not_taken(&error))?;
    }
    out.flush().map_err(|error| not_taken(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<Url, u8> {
        text.parse().map_err(|failure: Failure| failure.exit_code())
    }

    fn parts(text: &str) -> (String, u16, String, String) {
        let url = url(text).unwrap();
        let authority = url.authority.to_str().unwrap().to_owned();
        (url.host, url.port, authority, url.target.to_string())
    }

    #[test]
    fn a_url_says_host_port_and_path() {
        let whole = parts("http://spells.test:8080/spells?x=1#part");
        let wanted = ("spells.test", 8080, "spells.test:8080", "/spells?x=1");
        assert_eq!((&*whole.0, whole.1, &*whole.2, &*whole.3), wanted);
        let short = parts("spells.test");
        assert_eq!(
            (&*short.0, short.1, &*short.2, &*short.3),
            ("spells.test", 80, "spells.test", "/")
        );
        let v6 = parts("HTTP://[::1]:81/");
        assert_eq!((&*v6.0, v6.1, &*v6.2, &*v6.3), ("::1", 81, "[::1]:81", "/"));
        assert_eq!(parts("http://[::1]").1, 80);
    }

    #[test]
    fn what_is_no_http_url_is_told_apart() {
        assert_eq!(url("https://spells.test/"), Err(1));
        assert_eq!(url("ftp://spells.test/"), Err(1));
        for wrong in [
            "",
            "http://",
            "http:///x",
            "http://a:b/",
            "a:0",
            "a:70000",
            "a b",
            "u:p@host",
            "http://[::1",
        ] {
            assert_eq!(url(wrong), Err(3), "{wrong}");
        }
    }

    #[test]
    fn given_fields_take_the_place_of_our_own() {
        let given = ["Content-Type: text/plain", "host: other", "X-A: 1", "x-a: 2"];
        let given = given.map(|text| text.parse().unwrap()).to_vec();
        let fields = fields(HeaderValue::from_static("spells.test"), true, given);
        assert_eq!(fields[CONTENT_TYPE], "text/plain");
        assert_eq!(fields[HOST], "other");
        assert_eq!(fields.get_all("x-a").iter().count(), 2);
        assert_eq!(fields[ACCEPT], "*/*");
    }

    #[test]
    fn a_field_has_a_name_and_a_value() {
        for wrong in ["", "name", ": value", "na me: x", "a: b\nc: d"] {
            assert!(wrong.parse::<Field>().is_err(), "{wrong:?}");
        }
    }
}
