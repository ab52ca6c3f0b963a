//! hyper reading the same bytes: its server for requests, its client for responses, over memory and without a
//! runtime. A future that waits although nobody will wake it has read all there is.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};

use crate::{Dialogue, Field, Message, Stop};

/// A peer that sends its bytes, `step` at a time, and then ends.
struct Script {
    input: Vec<u8>,
    at: Rc<Cell<usize>>,
    step: usize,
    /// Nothing is sent before the other side has written something.
    listens_first: bool,
    heard: bool,
    reader: Option<Waker>,
}

impl Script {
    fn new(input: &[u8], step: usize, listens_first: bool) -> Self {
        let at = Rc::new(Cell::new(0));
        Script { input: input.to_vec(), at, step, listens_first, heard: false, reader: None }
    }
}

impl Read for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.listens_first && !self.heard {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let at = self.at.get();
        let count = (self.input.len() - at).min(self.step).min(buffer.remaining());
        buffer.put_slice(&self.input[at..at + count]);
        self.at.set(at + count);
        Poll::Ready(Ok(()))
    }
}

impl Write for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.heard = true;
        self.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Remembers that somebody has something to do.
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls until it is ready, or until nobody would wake it any more.
fn run<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let bell = Arc::new(Bell(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&bell));
    let mut cx = Context::from_waker(&waker);
    while bell.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(value) = poll(&mut cx) {
            return Some(value);
        }
    }
    None
}

fn fields(headers: &HeaderMap) -> Vec<Field> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn version_of(version: hyper::Version) -> &'static str {
    if version == hyper::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

/// The requests hyper's server sees in `input`, each answered with an empty 200.
pub(crate) fn requests(input: &[u8], step: usize) -> Dialogue {
    let seen = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let body = body.collect().await?;
        let authority = head.uri.authority().map(ToString::to_string);
        let target = match head.uri.path_and_query() {
            Some(path) => path.to_string(),
            None => head.uri.to_string(),
        };
        seen.borrow_mut().push(Message {
            start: head.method.to_string(),
            authority,
            target,
            version: version_of(head.version),
            fields: fields(&head.headers),
            trailers: body.trailers().map(fields).unwrap_or_default(),
            body: body.to_bytes().to_vec(),
            consumed: 0,
        });
        Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
    });
    let script = Script::new(input, step, false);
    let mut builder = hyper::server::conn::http1::Builder::new();
    // The end of the script is that of the client's direction only.
    let mut connection = pin!(builder.half_close(true).serve_connection(script, service));
    let end = run(|cx| connection.as_mut().poll(cx));
    let stop = match end {
        Some(Ok(())) => Stop::End,
        Some(Err(error)) => Stop::Refused(format!("{error}: {error:?}")),
        None => Stop::Part,
    };
    Dialogue { messages: seen.take(), stop }
}

/// The response that hyper's client sees in `input` as the answer to a `method` request.
pub(crate) fn response(method: &str, input: &[u8], step: usize) -> Dialogue {
    let script = Script::new(input, step, true);
    let read = Rc::clone(&script.at);
    let mut handshake = pin!(hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(script));
    let shaken = run(|cx| handshake.as_mut().poll(cx)).expect("it waits for nothing");
    let (mut sender, mut connection) = shaken.expect("it reads nothing");
    let request = Request::builder().method(method).uri("/").header("host", "a");
    let request = request.body(Empty::new()).expect("a sound request");
    let mut exchange = pin!(async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        Ok::<_, hyper::Error>((head, body))
    });
    let mut is_open = true;
    let end = run(|cx| {
        if let Poll::Ready(end) = exchange.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        if is_open {
            is_open = connection.poll_without_shutdown(cx).is_pending();
        }
        exchange.as_mut().poll(cx)
    });
    let left = connection.into_parts().read_buf.len();
    match end {
        None => Dialogue { messages: vec![], stop: Stop::Part },
        Some(Err(error)) => {
            Dialogue { messages: vec![], stop: Stop::Refused(format!("{error:?}")) }
        }
        Some(Ok((head, body))) => {
            let message = Message {
                start: head.status.as_str().to_owned(),
                authority: None,
                target: String::new(),
                version: version_of(head.version),
                fields: fields(&head.headers),
                trailers: body.trailers().map(fields).unwrap_or_default(),
                body: body.to_bytes().to_vec(),
                consumed: read.get() - left,
            };
            Dialogue { messages: vec![message], stop: Stop::End }
        }
    }
}
