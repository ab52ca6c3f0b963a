//! Why something did not go as asked: one closed set of reasons, each with one word. That word is the same in the access log, in the
//! labels of metrics, in `Proxy-Status`, in what the admin interface says, and in `docs/reasons.md`.
//!
//! PURE. Owns: the set, and for each what it is of, what it means, its usual cause and what helps. Does not own: finding it, or counting
//! it. Where RFC 9209 section 2.3 has an error type that fits, the word is that type.
//!
//! ```
//! use evenly::http::Fault;
//! use evenly::reason::{Cause, Incident, Party, Reason};
//!
//! let cause = Cause::of_request(Fault::NoHost);
//! assert_eq!(cause.reason, Reason::HttpRequestError);
//! assert_eq!((cause.reason.word(), cause.reason.party()), ("http_request_error", Party::Client));
//! assert_eq!(cause.detail.map(Fault::name), Some("no-host"));
//! assert!(cause.reason.can_be_of(Incident::Response) && !cause.reason.can_be_of(Incident::Retry));
//! ```

use std::fmt;
use std::io::{self, ErrorKind};

use crate::http::Fault;

/// Whose doing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// The client's.
    Client,
    /// The target's, or that of the network before it.
    Target,
    /// Evenly's own: its configuration, its limits, its host.
    Own,
}

impl Party {
    /// One word: `client`, `target`, `evenly`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Party::Client => "client",
            Party::Target => "target",
            Party::Own => "evenly",
        }
    }
}

/// What has a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Incident {
    /// A response that evenly generated.
    Response,
    /// An exchange that ended before its response was whole.
    Cut,
    /// A request that was sent again, or to another endpoint than the one that was picked first.
    Retry,
    /// An endpoint that was ejected.
    Ejection,
    /// A health check that failed.
    Check,
}

impl Incident {
    /// All of them.
    pub const ALL: [Incident; 5] =
        [Incident::Response, Incident::Cut, Incident::Retry, Incident::Ejection, Incident::Check];

    /// One word: `response`, `cut`, `retry`, `ejection`, `check`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Incident::Response => "response",
            Incident::Cut => "cut",
            Incident::Retry => "retry",
            Incident::Ejection => "ejection",
            Incident::Check => "check",
        }
    }
}

/// Defines the set as a table: the party, a variant, its word, whether RFC 9209 has it, its events, what it means, its usual cause,
/// what helps.
macro_rules! reasons {
    ($($party:ident $reason:ident $word:literal $registered:literal [$($event:ident)*]
        $meaning:literal $cause:literal $remedy:literal)*) => {
        /// Why something did not go as asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $meaning] $reason,)*
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$reason),*];

            /// Its word: lower case, joined by underscores.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Reason::$reason => $word,)* }
            }

            /// Whose doing it is.
            #[must_use]
            pub const fn party(self) -> Party {
                match self { $(Reason::$reason => Party::$party,)* }
            }

            /// Whether the word is an error type of RFC 9209 section 2.3.
            #[must_use]
            pub const fn is_registered(self) -> bool {
                match self { $(Reason::$reason => $registered,)* }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$reason => $meaning,)* }
            }

            /// What usually causes it, in one sentence or two.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Reason::$reason => $cause,)* }
            }

            /// What helps, in one sentence or two.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Reason::$reason => $remedy,)* }
            }

            /// What it can be the reason of.
            const fn events(self) -> u8 {
                match self { $(Reason::$reason => 0 $(| 1 << Incident::$event as u8)*,)* }
            }
        }
    };
}

#[rustfmt::skip]
reasons! {
    Client HttpRequestError "http_request_error" true [Response Cut]
        "The client's request is not valid, or asks for what is not served."
        "A client that is broken or hostile, or that speaks another protocol to this port; the detail says what is wrong."
        "Look at the detail and at the request line in the access log; a client of yours is to be mended there."
    Client RequestTimeout "request_timeout" false [Response Cut]
        "The client took too long to send its request."
        "A slow or lost network on the client's side, a client that stalls in an upload, or an attack by many slow connections."
        "If clients are honest and slow, raise timeouts.client_header or timeouts.client_body."
    Client ClientReadTimeout "client_read_timeout" false [Cut]
        "The client took nothing of its response for as long as timeouts.client_body."
        "A client that stopped reading, or whose network was lost without a word."
        "If clients pause for that long on purpose, raise timeouts.client_body."
    Client ClientClosed "client_closed" false [Cut]
        "The client closed its connection before its response was whole."
        "A person who pressed stop, a client with a shorter timeout than the target needs, or a load balancer in front that gave up."
        "If it is often so at the same duration, somebody in front has a timeout of that length: the target is too slow for it."
    Target ConnectionRefused "connection_refused" true [Response Retry Check]
        "The endpoint refused the connection, or nobody was there."
        "The server does not run, listens on another address or port, or its backlog is full."
        "Start the server, and compare the address of the target with the one it listens on (ss -ltn)."
    Target ConnectionTimeout "connection_timeout" true [Response Retry Check]
        "The endpoint did not take the connection in time."
        "A firewall that drops packets, a host that is down, or a server whose backlog is full."
        "Connect from this machine by hand (curl -v); if the way is long, raise timeouts.connect or the check's timeout."
    Target DestinationIpUnroutable "destination_ip_unroutable" true [Response Retry Check]
        "There is no way to the endpoint's address."
        "A route that is missing, or a host that is down in the same network."
        "Look at the routes of this machine (ip route get ADDRESS)."
    Target ConnectFailed "connect_failed" false [Response Retry Check]
        "The connect to the endpoint failed with another error of the system."
        "A Unix socket that is not there or may not be used by evenly's user; the log has the error's text."
        "Make the socket, or give evenly's user the right to write to it."
    Target NotASocket "not_a_socket" false [Check]
        "The target's path leads to a file that is no socket."
        "A plain file under the path of a Unix socket, often left by another program."
        "Remove the file, and restart the server that is to listen there."
    Target BacklogFull "backlog_full" false [Response Retry Check]
        "As many connections wait at the target's Unix socket as it lets wait."
        "A server that accepts too slowly, or whose listen backlog is short."
        "Give the server more workers or a longer backlog."
    Target ConnectionTerminated "connection_terminated" true [Response Retry Check]
        "The endpoint closed or reset its connection before the head of its response was whole."
        "A server that crashed or was restarted with the request in hand, or that closes idle connections early."
        "Look at the server's own log at that time; a server that is restarted is to finish what it has begun."
    Target HttpResponseIncomplete "http_response_incomplete" true [Cut]
        "The endpoint closed or reset its connection within its response."
        "A server that crashed or was killed while it sent, or that announced a longer Content-Length than it sent."
        "Look at the server's own log at that time."
    Target ConnectionReadTimeout "connection_read_timeout" true [Response Cut Retry Check]
        "The endpoint sent nothing for as long as timeouts.response_header or timeouts.response_body, or the timeout of its check."
        "A server that hangs, waits for a database, or needs longer than that for this request."
        "Find out what the server waits for; if requests may take so long, raise the timeout."
    Target HttpProtocolError "http_protocol_error" true [Response Cut Check]
        "The endpoint's response is not valid, or could be read in two ways."
        "A server with a fault in its HTTP, or one that speaks another protocol on that port; the detail says what is wrong."
        "Look at the detail; mend the server, or name the port where it speaks plain HTTP/1."
    Target HttpResponseHeaderSectionSize "http_response_header_section_size" true [Response Check]
        "The head of the endpoint's response is too large."
        "Many or large cookies, or a server that repeats a field without end."
        "Make the fields smaller, or raise limits.head and limits.headers."
    Target HttpResponseTrailerSectionSize "http_response_trailer_section_size" true [Response Cut]
        "The trailer section of the endpoint's response is too large."
        "A server that puts much into trailer fields."
        "Make them smaller, or raise limits.head and limits.headers."
    Target HttpResponseTransferCoding "http_response_transfer_coding" true [Response Check]
        "The transfer coding of the endpoint's response is not one that can be passed on."
        "A server that sends Transfer-Encoding: gzip or the like, or names chunked twice."
        "Have the server use Content-Encoding for compression, and chunked alone as the transfer coding."
    Target HttpUpgradeFailed "http_upgrade_failed" true [Response]
        "The endpoint switched to a protocol that the client did not ask for."
        "A server that answers 101, or 200 to what is no CONNECT as if it were one, unasked."
        "Have the server switch only to what the Upgrade field of the request asks for."
    Target DestinationUnavailable "destination_unavailable" true [Response Retry]
        "No endpoint is healthy, or the one with the request went down."
        "Health checks fail at every endpoint, or each is ejected, taken out by hand or without an address."
        "Ask for the targets (evenly targets, evenly why TARGET): each one that is out has a reason of its own."
    Target UnexpectedStatus "unexpected_status" false [Check]
        "The response to a health check had a status that is not expected."
        "A server that is not ready, a path that is wrong, or a server that wants another Host or credentials."
        "Ask for the path of the check by hand with the same Host; change the health endpoint, host or expect of the target."
    Target ConsecutiveConnectFailures "consecutive_connect_failures" false [Ejection]
        "The endpoint failed consecutive connects of requests, although its health checks succeed."
        "A server whose backlog is full under load, or one that runs on some of its addresses only."
        "Give the server more room, or more servers; ejection.connect_failures says how many it takes."
    Target ConsecutiveResets "consecutive_resets" false [Ejection]
        "The endpoint closed or reset consecutive exchanges before it responded, although its health checks succeed."
        "A server that crashes on requests, or whose process is being replaced."
        "Look at the server's own log at that time."
    Target ConsecutiveTimeouts "consecutive_timeouts" false [Ejection]
        "The endpoint did not begin consecutive responses in time, although its health checks succeed."
        "A server that hangs behind a health check that does not need what hangs."
        "Have the health check ask for something that needs what requests need."
    Target ConsecutiveServerErrors "consecutive_server_errors" false [Ejection]
        "The endpoint responded to consecutive requests with a status of 500 to 599, although its health checks succeed."
        "A server that lost its database, or a faulty release of it on one machine."
        "Look at the server's own log; ejection.errors says how many it takes."
    Own ProxyLoopDetected "proxy_loop_detected" true [Response]
        "The request has passed this instance before."
        "A target that is this instance itself, or that sends requests back to it."
        "Remove that target, or have it not send requests back."
    Own ConnectionLimitReached "connection_limit_reached" true [Response]
        "Every healthy endpoint has as many requests as limits.requests_per_target allows."
        "More load than the targets may have, or targets that have become slow."
        "Add targets, or raise limits.requests_per_target if they can take more."
    Own MemoryLimit "memory_limit" false [Response]
        "The buffers held all of limits.memory, and the request would have needed more."
        "Many slow readers or large request heads at the same time."
        "Raise limits.memory, or lower limits.connections."
    Own ResourceShortage "resource_shortage" false [Response Retry]
        "No connection to an endpoint could be opened for lack of descriptors, memory of the kernel or local ports, or because of a rule of this host."
        "A limit of descriptors that is too low for the load, a full port range, or a firewall on this machine; the log says which."
        "Raise the limit that the log names (LimitNOFILE, net.ipv4.ip_local_port_range), or allow the connection."
    Own TunnelIdleTimeout "tunnel_idle_timeout" false [Cut]
        "Nothing was said in a tunnel (WebSocket) for as long as timeouts.tunnel_idle."
        "A quiet application without a heartbeat."
        "Have client or server send pings, or raise timeouts.tunnel_idle."
    Own ProxyStopped "proxy_stopped" false [Cut]
        "Evenly ended before the exchange did."
        "A stop or an upgrade: the exchange took longer than timeouts.drain, or a second signal came."
        "Raise timeouts.drain, and the time that the service manager waits before it kills."
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Reason::ALL.len();

    /// Whether it can be the reason of such an event.
    #[must_use]
    pub const fn can_be_of(self, event: Incident) -> bool {
        self.events() & (1 << event as u8) != 0
    }

    /// Of a connect that failed with this error of the system, if it is not of this side
    /// ([`Shortage::of_connect`](crate::base::shortage::Shortage::of_connect)).
    #[must_use]
    pub fn of_connect(error: &io::Error) -> Reason {
        match error.kind() {
            ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
            ErrorKind::TimedOut => Reason::ConnectionTimeout,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Reason::DestinationIpUnroutable
            }
            // Of a Unix socket: for TCP it would be a shortage of this side.
            ErrorKind::WouldBlock => Reason::BacklogFull,
            _ => Reason::ConnectFailed,
        }
    }

    /// The one with this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.word() == word)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A reason, with the detail that a parser has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cause {
    /// Why.
    pub reason: Reason,
    /// What is wrong with the message, if that is why.
    pub detail: Option<Fault>,
}

impl Cause {
    /// Of a request that is refused.
    #[must_use]
    pub const fn of_request(fault: Fault) -> Cause {
        match fault {
            Fault::Loop => Cause::plain(Reason::ProxyLoopDetected),
            Fault::SlowRequest => Cause::plain(Reason::RequestTimeout),
            _ => Cause { reason: Reason::HttpRequestError, detail: Some(fault) },
        }
    }

    /// Of a response that is not passed on.
    #[must_use]
    pub const fn of_response(fault: Fault) -> Cause {
        let reason = match fault {
            Fault::LargeResponseHead | Fault::TooManyFields => {
                Reason::HttpResponseHeaderSectionSize
            }
            Fault::LargeTrailers | Fault::TooManyTrailers => Reason::HttpResponseTrailerSectionSize,
            Fault::UnknownCoding
            | Fault::SeveralCodings
            | Fault::LastCodingNotChunked
            | Fault::NotExactlyChunked => Reason::HttpResponseTransferCoding,
            Fault::UnaskedSwitch | Fault::UnaskedTunnel => Reason::HttpUpgradeFailed,
            _ => Reason::HttpProtocolError,
        };
        Cause { reason, detail: Some(fault) }
    }

    /// It as two numbers, for who keeps many.
    #[must_use]
    pub fn numbers(self) -> [u16; 2] {
        [self.reason as u16 + 1, self.detail.map_or(0, |detail| detail as u16 + 1)]
    }

    /// What has these [`Cause::numbers`].
    #[must_use]
    pub fn of_numbers([reason, detail]: [u16; 2]) -> Option<Cause> {
        let at = |number: u16| usize::from(number).wrapping_sub(1);
        let reason = *Reason::ALL.get(at(reason))?;
        Some(Cause { reason, detail: Fault::ALL.get(at(detail)).copied() })
    }

    /// The name of its detail, if it has one.
    #[must_use]
    pub fn detail_name(self) -> Option<&'static str> {
        self.detail.map(Fault::name)
    }

    /// Without a detail.
    #[must_use]
    pub const fn plain(reason: Reason) -> Cause {
        Cause { reason, detail: None }
    }
}

impl From<Reason> for Cause {
    fn from(reason: Reason) -> Cause {
        Cause::plain(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9209 sections 2.3.1 to 2.3.32.
    const REGISTERED: &str = "dns_timeout dns_error destination_not_found destination_unavailable destination_ip_prohibited \
        destination_ip_unroutable connection_refused connection_terminated connection_timeout connection_read_timeout \
        connection_write_timeout connection_limit_reached tls_protocol_error tls_certificate_error tls_alert_received \
        http_request_error http_request_denied http_response_incomplete http_response_header_section_size \
        http_response_header_size http_response_body_size http_response_trailer_section_size http_response_trailer_size \
        http_response_transfer_coding http_response_content_coding http_response_timeout http_upgrade_failed \
        http_protocol_error proxy_internal_response proxy_internal_error proxy_configuration_error proxy_loop_detected";

    #[test]
    fn every_reason_has_a_word_of_its_own_that_rfc_9209_has_if_it_says_so() {
        for (at, &reason) in Reason::ALL.iter().enumerate() {
            let word = reason.word();
            assert!(word.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{word}");
            assert_eq!(reason as usize, at, "{word}");
            assert_eq!(Reason::of_word(word), Some(reason));
            let is_known = REGISTERED.split_whitespace().any(|it| it == word);
            assert_eq!(reason.is_registered(), is_known, "{word}");
        }
    }

    #[test]
    fn every_reason_is_of_something_and_says_what_it_means_why_and_what_helps() {
        for &reason in Reason::ALL {
            assert!(Incident::ALL.into_iter().any(|event| reason.can_be_of(event)), "{reason}");
            for text in [reason.meaning(), reason.cause(), reason.remedy()] {
                assert!(text.ends_with('.') && text.len() > 20, "{reason}: {text}");
            }
        }
    }

    #[test]
    fn every_fault_of_a_message_has_a_reason_of_the_party_that_sent_it() {
        for &fault in Fault::ALL {
            let request = Cause::of_request(fault).reason;
            assert!(request.can_be_of(Incident::Response), "{}", fault.name());
            let response = Cause::of_response(fault).reason;
            assert_eq!(response.party(), Party::Target, "{}", fault.name());
        }
    }
}
