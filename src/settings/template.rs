//! What an entry of the access log can say, and templates made of that: text with the names of fields in braces.
//!
//! Owns: the closed set of fields, and what a template may be. Does not own: how a field is written (`access::render`).

/// Defines the set as a table: a variant, its name, what it is.
macro_rules! log_fields {
    ($($field:ident $name:literal $about:literal)*) => {
        /// What an entry of the access log can say.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum LogField {
            $(#[doc = $about] $field,)*
        }

        impl LogField {
            /// All of them, those of JSON first, in its order.
            pub const ALL: &'static [LogField] = &[$(LogField::$field),*];

            /// Its name: the key in JSON, and what stands in braces in a template.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(LogField::$field => $name,)* }
            }

            /// What it is, in one line.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(LogField::$field => $about,)* }
            }
        }
    };
}

log_fields! {
    Time "time" "When the request head was complete: RFC 3339, UTC, with milliseconds"
    RequestId "request_id" "The `X-Request-ID` that target and client got, with `request_id = true`"
    TraceId "trace_id" "The trace ID of the `traceparent` that the target got, if that is valid"
    Client "client" "The client's IP address: that of the connection, or the last of `X-Forwarded-For` of a trusted proxy (`trusted_proxies`)"
    Listener "listener" "The address that the client's connection was accepted at, as it is listened on"
    Route "route" "Always null: there are no routes, every request goes to the targets"
    Method "method" "The method as received; null if the request was not valid"
    Uri "uri" "The request target as received, such as `/a?b=c`; null if the request was not valid"
    Protocol "protocol" "The version as received: `HTTP/1.0` or `HTTP/1.1`; null if the request was not valid"
    Tls "tls" "Always null: evenly speaks no TLS"
    Host "host" "The `Host` field; empty if there was none"
    Status "status" "The status sent to the client; 0 if none was"
    BytesIn "bytes_in" "Bytes of the request body that came from the client"
    BytesOut "bytes_out" "Bytes of the response body sent to the client"
    Target "target" "The target that got the request, as configured; null if none did"
    Endpoint "endpoint" "The endpoint that got the request, the last one if there were several; null if there was none"
    Attempts "attempts" "How often a connection for the request was opened or taken from the pool"
    ConnectMs "connect_ms" "How long opening the last connection took, in milliseconds; null if one of the pool was used"
    FirstByteMs "first_byte_ms" "From `time` to the first byte of the response; null if there was none"
    DurationMs "duration_ms" "From `time` to the end of the exchange, in milliseconds with three decimals"
    End "end" "How the exchange ended: one of the words below"
    EndedBy "ended_by" "Who ended it: `client`, `target` or `evenly`; null if it ended as it should"
    Phase "phase" "In which phase: `request`, `connect`, `wait` (for the response), `response` or `tunnel`; null if it ended as it should"
    Reason "reason" "Only where evenly generated the response, or the exchange was cut: why, in a word of docs/reasons.md; null otherwise"
    Detail "detail" "What the parser found, where that is why; null otherwise"
    Referer "referer" "The field of this name; empty if there was none"
    UserAgent "user_agent" "The field of this name; empty if there was none"
    Line "line" "The beginning of a request that was not valid, at most 256 bytes up to its first line end; null otherwise"
    Request "request" "Templates only: method, request target and version with spaces between, or `line`"
    TimeClf "time_clf" "Templates only: the time as the combined format has it, without brackets"
    TimeUnix "time_unix" "Templates only: the time in seconds since 1970 with three decimals"
    Vhost "vhost" "Templates only: the `Host` field, with port 80 if it has none"
}

impl LogField {
    /// The first field that JSON does not have.
    const FIRST_OF_TEMPLATES: LogField = LogField::Request;

    /// Those of JSON, in its order.
    pub fn of_json() -> impl Iterator<Item = LogField> {
        LogField::ALL.iter().copied().take_while(|field| *field != LogField::FIRST_OF_TEMPLATES)
    }

    /// Whether it is text that a client sent, or of the configuration, and not a number, an address, a time or a word of ours.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        use LogField::{
            Endpoint, Host, Line, Method, Protocol, Referer, Request, RequestId, Target, TraceId,
            Uri, UserAgent, Vhost,
        };
        matches!(
            self,
            RequestId
                | TraceId
                | Method
                | Uri
                | Protocol
                | Host
                | Target
                | Endpoint
                | Referer
                | UserAgent
                | Line
                | Request
                | Vhost
        )
    }

    fn named(name: &str) -> Option<LogField> {
        LogField::ALL.iter().copied().find(|field| field.name() == name)
    }
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPiece {
    /// Text that every line has.
    Text(String),
    /// A field, outside of quotes.
    Bare(LogField),
    /// A field within double quotes of the text.
    Quoted(LogField),
}

/// A line of the access log as an operator wants it: text, and the names of fields in braces. `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTemplate {
    text: String,
    pieces: Vec<LogPiece>,
}

/// The longest template, in bytes.
const MAX_TEMPLATE: usize = 4_096;

impl LogTemplate {
    /// Reads a template. It is one line of visible ASCII, spaces and tabs, and has at least one field.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<LogTemplate, String> {
        if text.len() > MAX_TEMPLATE {
            return Err(format!(
                "the template is longer than {MAX_TEMPLATE} bytes; write a shorter one"
            ));
        }
        if let Some(bad) = text.chars().find(|c| !matches!(c, ' '..='~' | '\t')) {
            return Err(format!(
                "the template holds the character U+{:04X}; write visible ASCII, spaces and tabs",
                u32::from(bad)
            ));
        }
        let (mut pieces, mut literal, mut quoted) = (Vec::new(), String::new(), false);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push(c);
                rest = &rest[2..];
            } else if c == '}' {
                return Err("the template has a } without a {; write }} for a brace".to_owned());
            } else if let Some(inner) = rest.strip_prefix('{') {
                let Some((name, behind)) = inner.split_once('}') else {
                    return Err("the template has a { without a }; write {{ for a brace".to_owned());
                };
                let field = LogField::named(name).ok_or_else(|| unknown(name))?;
                if !literal.is_empty() {
                    pieces.push(LogPiece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(if quoted { LogPiece::Quoted(field) } else { LogPiece::Bare(field) });
                rest = behind;
            } else {
                quoted ^= c == '"';
                literal.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        if pieces.is_empty() {
            return Err(
                "the template names no field; write names in braces, such as {client}".to_owned()
            );
        }
        if quoted {
            return Err("the template has a \" without a second one; add it".to_owned());
        }
        if !literal.is_empty() {
            pieces.push(LogPiece::Text(literal));
        }
        Ok(LogTemplate { text: text.to_owned(), pieces })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it consists of, in order.
    #[must_use]
    pub fn pieces(&self) -> &[LogPiece] {
        &self.pieces
    }
}

fn unknown(name: &str) -> String {
    let meant = match name.trim().trim_start_matches(['$', '%']).to_ascii_lowercase().as_str() {
        "remote_addr" | "remote_ip" | "ip" | "client_ip" => Some("client"),
        "request_uri" | "path" | "url" | "request_target" => Some("uri"),
        "bytes" | "body_bytes_sent" | "bytes_sent" | "size" => Some("bytes_out"),
        "request_time" | "duration" | "latency" | "total_ms" => Some("duration_ms"),
        "upstream" | "upstream_addr" | "backend" => Some("endpoint"),
        "ttfb" | "ttfb_ms" => Some("first_byte_ms"),
        "http_user_agent" | "agent" => Some("user_agent"),
        "http_referer" | "referrer" => Some("referer"),
        "http_host" | "authority" => Some("host"),
        "time_local" => Some("time_clf"),
        "msec" => Some("time_unix"),
        "code" | "status_code" => Some("status"),
        other => LogField::named(other).map(LogField::name),
    };
    let shown: String = name.chars().take(40).collect();
    match meant {
        Some(meant) => {
            format!("the template names {{{shown}}}, which is not a field; write {{{meant}}}")
        }
        None => {
            let names: Vec<&str> = LogField::ALL.iter().map(|field| field.name()).collect();
            format!(
                "the template names {{{shown}}}, which is not a field; write one of {}",
                names.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_fields_and_knows_which_stand_in_quotes() {
        let template = LogTemplate::parse("{client} \"{method} {uri}\" {{{status}}}").unwrap();
        let text = |text: &str| LogPiece::Text(text.to_owned());
        assert_eq!(
            template.pieces(),
            [
                LogPiece::Bare(LogField::Client),
                text(" \""),
                LogPiece::Quoted(LogField::Method),
                text(" "),
                LogPiece::Quoted(LogField::Uri),
                text("\" {"),
                LogPiece::Bare(LogField::Status),
                text("}"),
            ]
        );
    }

    #[test]
    fn a_template_that_is_wrong_is_answered_with_what_to_write() {
        for (text, remedy) in [
            ("plain", "write names in braces, such as {client}"),
            ("", "write names in braces"),
            ("{client", "write {{ for a brace"),
            ("client}", "write }} for a brace"),
            ("{remote_addr}", "write {client}"),
            ("{ status }", "write {status}"),
            ("{Status}", "write {status}"),
            ("{nonsense}", "write one of time, request_id"),
            ("\"{client}", "add it"),
            ("{client}\n{uri}", "U+000A"),
            ("{client}\u{1b}[31m", "U+001B"),
            ("{client}\u{202e}", "U+202E"),
        ] {
            let problem = LogTemplate::parse(text).unwrap_err();
            assert!(problem.contains(remedy), "{text:?}: {problem}");
            assert!(problem.bytes().all(|b| matches!(b, b' '..=b'~')), "{problem:?}");
        }
        assert!(LogTemplate::parse(&format!("{{uri}}{}", "x".repeat(MAX_TEMPLATE))).is_err());
    }

    #[test]
    fn every_field_has_a_name_of_its_own() {
        for field in LogField::ALL {
            assert_eq!(LogField::named(field.name()), Some(*field));
            assert!(LogTemplate::parse(&format!("{{{}}}", field.name())).is_ok());
        }
    }
}
