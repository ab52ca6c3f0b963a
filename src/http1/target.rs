//! The request target (RFC 9112 section 3.2, RFC 3986).
//!
//! Owns: which form it has and whether its characters are allowed. Does not own: `Host`, or what is sent upstream.

use super::{Fault, Method};
use crate::http::syntax::{self, PATH, QUERY};

/// The forms that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestTarget<'b> {
    /// `/path?query`, sent on as it is.
    Origin,
    /// `*`, only with OPTIONS.
    Asterisk,
    /// `http://authority/path?query`, or `https`; the rest may be empty or begin with `?`.
    Absolute {
        /// A valid `host[:port]`.
        authority: &'b str,
        /// What follows it.
        rest: &'b str,
    },
}

impl<'b> RequestTarget<'b> {
    /// Judges `text`, which is not empty. CONNECT has no target that is served.
    pub(crate) fn of(method: Method, text: &'b str) -> Result<Self, Fault> {
        if method == Method::Connect {
            return Err(connect(text));
        }
        if text.starts_with('/') {
            return path_and_query(text.as_bytes()).map(|()| Self::Origin);
        }
        if text == "*" {
            return match method {
                Method::Options => Ok(Self::Asterisk),
                _ => Err(Fault::AsteriskTarget),
            };
        }
        absolute(text)
    }
}

/// Authority-form is the only one for CONNECT and needs a port (RFC 9112 section 3.2.3).
fn connect(text: &str) -> Fault {
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty());
    if has_port && syntax::is_authority(text.as_bytes()) {
        Fault::Connect
    } else {
        Fault::ConnectTarget
    }
}

fn absolute(text: &str) -> Result<RequestTarget<'_>, Fault> {
    // TLS may have ended in front of us: the scheme says nothing of this connection (RFC 9110 section 7.4).
    let is_http = |scheme: &&str| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let Some(scheme) = ["http://", "https://"].into_iter().find(is_http) else {
        return Err(Fault::OtherTarget);
    };
    let after = &text[scheme.len()..];
    let (authority, rest) = after.split_at(after.find(['/', '?']).unwrap_or(after.len()));
    if !syntax::is_authority(authority.as_bytes()) {
        return Err(Fault::TargetHost);
    }
    path_and_query(rest.as_bytes())?;
    Ok(RequestTarget::Absolute { authority, rest })
}

/// Every byte of the path and of the query is one of theirs; `#` is in neither.
fn path_and_query(text: &[u8]) -> Result<(), Fault> {
    let Some((_, query)) = syntax::run_of(text, PATH) else {
        return Err(Fault::PercentInPath);
    };
    let query_is_valid = match query {
        [] => true,
        [b'?', query @ ..] => syntax::all(query, QUERY),
        _ => false,
    };
    if !query_is_valid {
        return Err(Fault::TargetCharacter);
    }
    Ok(())
}
