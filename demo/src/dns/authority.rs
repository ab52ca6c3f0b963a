//! The authority's answers: hickory's catalog over the zones as they are now, and a line of the log for each query.

use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::Catalog;
use tokio::sync::watch;

use crate::process::say;

/// Answers for the zones that a [`watch::Receiver`] holds: authoritative, with the SOA when there is nothing
/// (RFC 2308), REFUSED for names of no zone.
pub struct Authority {
    zones: watch::Receiver<Arc<Catalog>>,
}

impl Authority {
    /// An authority for whatever `zones` holds at the time of a query.
    pub fn new(zones: watch::Receiver<Arc<Catalog>>) -> Authority {
        Authority { zones }
    }
}

#[async_trait]
impl RequestHandler for Authority {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handle: R,
    ) -> ResponseInfo {
        let zones = Arc::clone(&self.zones.borrow());
        let answered = zones.handle_request::<R, T>(request, response_handle).await;
        say(line(request, &answered));
        answered
    }
}

/// `query udp 127.0.0.1:4567 spells.test. A: No Error, answers 1`
fn line(request: &Request, answered: &ResponseInfo) -> String {
    let mut line = format!("query {} {}", request.protocol(), request.src());
    for query in request.queries.queries() {
        let _ = write!(line, " {} {}", query.name(), query.query_type());
    }
    let _ = write!(line, ": {}, answers {}", answered.response_code, answered.counts().answers);
    line
}
