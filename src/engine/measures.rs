//! What is counted of each exchange: how many there are, how long they take, by method and status code. Time is the turn's.

use super::Net;
use super::keys::ClientKey;
use super::pump::Pump;
use crate::access::End;
use crate::base::tick::CoarseTick;

impl<N: Net> Pump<N> {
    /// A request's head is whole, or was refused, or did not come in time. One that has begun is not counted again: its body may turn out
    /// to be broken.
    pub(super) fn begin_measures(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && client.exchange.begun == CoarseTick::NEVER
        {
            client.exchange.begun = CoarseTick::at(self.now);
            self.counters.requests.bump();
            self.in_flight += 1;
            self.counters.traffic.in_flight.set(self.in_flight);
        }
    }

    /// The first byte of the exchange's response is there.
    pub(super) fn measure_first_byte(&self, key: ClientKey) {
        if let Some(client) = self.clients.get(key)
            && client.exchange.begun != CoarseTick::NEVER
        {
            self.counters.traffic.first_bytes.observe(client.exchange.begun.micros_until(self.now));
        }
    }

    /// The exchange ended, if there is one. A tunnel lasts as long as its two sides like, which says nothing of requests.
    pub(super) fn end_measures(&mut self, key: ClientKey, end: End) {
        // Its last bytes could not be written: it has gone, and its exchange was counted then.
        let Some(client) = self.clients.get_mut(key) else { return };
        let begun = std::mem::replace(&mut client.exchange.begun, CoarseTick::NEVER);
        if begun == CoarseTick::NEVER {
            return;
        }
        let (method, status) = (client.exchange.flow.method(), client.exchange.flow.status());
        let traffic = &self.counters.traffic;
        self.in_flight -= 1;
        traffic.in_flight.set(self.in_flight);
        traffic.ended(method as usize, status);
        if !matches!(end, End::TunnelClosed | End::TunnelIdle) {
            traffic.durations.observe(begun.micros_until(self.now));
        }
    }
}
