//! Exchanges by hand, one after the other, for tests that are in the engine's place.

use std::net::IpAddr;

use evenly::exchange::{Ending, ExchangeRules, Flow, Halves, Output, Step};
use evenly::http1::{ClientAddress, ClientHalf, ServerHalf};

/// What is between a client and its targets: both connections as HTTP/1 knows them, and the exchange under way.
pub(crate) struct Exchanges {
    pub(crate) rules: ExchangeRules,
    pub(crate) flow: Flow,
    pub(crate) client: ServerHalf,
    pub(crate) target: ClientHalf,
    pub(crate) out: Output,
}

impl Exchanges {
    pub(crate) fn new(rules: ExchangeRules) -> Exchanges {
        Exchanges {
            rules,
            flow: Flow::READY,
            client: ServerHalf::READY,
            target: ClientHalf::READY,
            out: Output::default(),
        }
    }

    /// The client says this.
    pub(crate) fn client_bytes(&mut self, input: &mut [u8]) -> Step {
        let Exchanges { rules, flow, client, target, out } = self;
        out.clear();
        let address = ClientAddress { ip: IpAddr::from([192, 0, 2, 1]), trusted: false };
        flow.client_bytes(rules, &address, Halves { client, target }, input, out)
    }

    /// The target says this.
    pub(crate) fn upstream_bytes(&mut self, input: &mut [u8]) -> Step {
        let Exchanges { rules, flow, client, target, out } = self;
        out.clear();
        flow.upstream_bytes(rules, Halves { client, target }, input, out)
    }

    /// The exchange is over. Whether another may follow on the client's connection.
    pub(crate) fn next_request(&mut self) -> bool {
        let is_kept = self.flow.ending(&self.client) == Ending::KeepAlive;
        self.flow = Flow::READY;
        self.client.next_request();
        self.target = ClientHalf::READY;
        is_kept
    }
}
