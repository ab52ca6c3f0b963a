//! Why a message is not passed on: one closed set, whatever the version of HTTP and whichever room finds it.
//!
//! Owns: the name of each fault, the status that a request with it is answered with, and the sentence for people. Does not own:
//! finding it.

/// Defines the set as a table: a variant, its name in logs and metrics, the status, the sentence.
macro_rules! faults {
    ($($fault:ident $name:literal $status:literal $why:literal)*) => {
        /// What is wrong with a message, in one word and one sentence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault {
            $(#[doc = $why] $fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Fault] = &[$(Fault::$fault),*];

            /// The status of the response to a request that has it, 400..=508. Of a fault that only a response can have it is
            /// 502, and so it is of every fault of a response.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Fault::$fault => $status,)* }
            }

            /// Its name: lower case, words joined by dashes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name,)* }
            }

            /// One short sentence, for the body of the response and the log.
            #[must_use]
            pub const fn why(self) -> &'static str {
                match self { $(Fault::$fault => $why,)* }
            }
        }
    };
}

faults! {
    EmptyLines "empty-lines" 400 "There is more than one empty line."
    BadMethod "bad-method" 400 "The request method is not valid."
    LongMethod "long-method" 501 "The method is longer than any that is known."
    TargetCharacter "target-character" 400 "The request target holds a character that is not allowed."
    BadRequestLine "bad-request-line" 400 "Malformed request line."
    NoVersion "no-version" 400 "The request line has no HTTP version."
    OtherVersion "other-version" 505 "Unsupported HTTP version; use HTTP/1.1 or HTTP/1.0."
    BadVersion "bad-version" 400 "The request line does not end in an HTTP version."
    BadStatusLine "bad-status-line" 502 "Malformed status line."
    TooManyFields "too-many-fields" 431 "There are too many header fields."
    BareLineFeed "bare-line-feed" 400 "A line ends in LF without CR."
    NoColon "no-colon" 400 "A field line has no colon."
    NoFieldName "no-field-name" 400 "A field has no name."
    FoldedLine "folded-line" 400 "A field line begins with white space (obs-fold)."
    FieldNameCharacter "field-name-character" 400 "A field name holds a character that is not allowed."
    FieldValueCharacter "field-value-character" 400 "A field value holds a control character."
    RequestHead "request-head" 400 "The request head is malformed."
    ResponseHead "response-head" 502 "The response head is malformed."
    LongRequestLine "long-request-line" 414 "The request line is too long."
    LargeRequestHead "large-request-head" 431 "The request head is too large."
    LargeResponseHead "large-response-head" 502 "The response head is too large."
    CodingInHttp10 "coding-in-http10" 400 "Transfer-Encoding is not allowed in HTTP/1.0."
    LengthAndCoding "length-and-coding" 400 "Both Content-Length and Transfer-Encoding are present."
    SeveralCodings "several-codings" 400 "There is more than one Transfer-Encoding."
    BadContentLength "bad-content-length" 400 "The Content-Length is not a valid number."
    DifferentContentLengths "different-content-lengths" 400 "There are two different Content-Lengths."
    LastCodingNotChunked "last-coding-not-chunked" 400 "The last transfer coding is not chunked."
    UnknownCoding "unknown-coding" 501 "Unsupported transfer coding."
    NotExactlyChunked "not-exactly-chunked" 400 "The Transfer-Encoding is not exactly chunked."
    UnaskedTunnel "unasked-tunnel" 502 "A tunnel that the client did not ask for."
    Trace "trace" 405 "TRACE is not enabled."
    NoHost "no-host" 400 "Missing Host header."
    BadHost "bad-host" 400 "The Host is not valid."
    SeveralHosts "several-hosts" 400 "There is more than one Host."
    UnknownExpectation "unknown-expectation" 417 "The expectation is not 100-continue."
    BadMaxForwards "bad-max-forwards" 400 "The Max-Forwards is not a number."
    TooManyOptions "too-many-options" 400 "The Connection field names too many fields."
    AsteriskTarget "asterisk-target" 400 "The target * is only for OPTIONS."
    Connect "connect" 501 "CONNECT is not enabled."
    ConnectTarget "connect-target" 400 "CONNECT requires host:port as its target."
    OtherTarget "other-target" 400 "The request target is neither a path nor an http URI."
    TargetHost "target-host" 400 "The host in the request target is not valid."
    PercentInPath "percent-in-path" 400 "A % in the path is not followed by two hex digits."
    ClosedInBody "closed-in-body" 400 "The connection closed within a body."
    ChunkExtensions "chunk-extensions" 400 "Chunk extensions exceed the payload size."
    ChunkEnd "chunk-end" 400 "A chunk does not end in CRLF."
    LargeTrailers "large-trailers" 400 "The trailer section is too large."
    TooManyTrailers "too-many-trailers" 400 "The trailer section has too many fields."
    ChunkSize "chunk-size" 400 "A chunk size is not a bounded hex number."
    LongChunkLine "long-chunk-line" 400 "A chunk line is too long."
    ChunkExtensionCharacter "chunk-extension-character" 400 "A chunk extension holds a control character."
    LargeChunk "large-chunk" 400 "A chunk size is too large."
    ChunkExtension "chunk-extension" 400 "A chunk extension is malformed."
    ClientSpeaksTls "client-speaks-tls" 400 "The client speaks TLS, but this port speaks plain HTTP: use http:// for it, or put a TLS terminator in front."
    ProxyProtocol "proxy-protocol" 400 "The connection begins with a PROXY protocol header, which is not supported: turn it off in the load balancer in front."
    ClientSpeaksHttp2 "client-speaks-http2" 505 "The client speaks HTTP/2 from the start, but this port speaks HTTP/1.1 alone: turn HTTP/2 (h2c, gRPC) off for it."
    TargetSpeaksTls "target-speaks-tls" 502 "The target speaks TLS, but requests are sent to it as plain HTTP: use the port where it speaks that."
    TargetSpeaksHttp2 "target-speaks-http2" 502 "The target speaks HTTP/2 alone, but requests are sent to it as HTTP/1.1: turn that on there."
    SlowRequest "slow-request" 408 "The request took too long to arrive."
    Loop "loop" 508 "The request has come back: a target leads here."
    TooManyInterim "too-many-interim" 502 "There are too many interim responses."
    UnaskedResponse "unasked-response" 502 "The target sent a response before there was a request."
    UnaskedSwitch "unasked-switch" 502 "The target switched to a protocol that the client did not ask for."
}

impl Fault {
    /// Does the peer speak another protocol? That is a mistake in a configuration, so it is logged.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        matches!(self, Fault::ClientSpeaksTls | Fault::ProxyProtocol | Fault::ClientSpeaksHttp2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_and_a_sentence_of_its_own() {
        for (at, fault) in Fault::ALL.iter().enumerate() {
            let name = fault.name();
            assert!(
                name.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit()),
                "{name}"
            );
            assert!(fault.why().ends_with('.'), "{name}");
            assert!((400..=508).contains(&fault.status()), "{name}");
            for other in &Fault::ALL[..at] {
                assert!(name != other.name() && fault.why() != other.why(), "{name}");
            }
        }
    }
}
