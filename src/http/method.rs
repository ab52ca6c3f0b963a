//! Methods: which a proxy must tell apart, and what each means to it.

/// A request's method (RFC 9110 section 9), as far as a proxy must tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`: its response never has a body.
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `TRACE`: never served.
    Trace,
    /// `CONNECT`: never served.
    Connect,
    /// Any other token, passed on as it is; lower case `get` is one, for methods are case-sensitive.
    Other,
}

impl Method {
    /// May a request be sent again although a first copy may have been processed (RFC 9110 section 9.2.2)?
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }

    /// Is the method read-only by definition (RFC 9110 section 9.2.1)?
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// May a target leave the content of a request with this method unread? It has no defined meaning with most (RFC 9110
    /// sections 9.3.1 to 9.3.8), and of a method that it does not know a target may not look for any; then it takes the content for the
    /// next request.
    #[must_use]
    pub fn ignores_content(self) -> bool {
        !matches!(self, Self::Post | Self::Put | Self::Patch)
    }

    /// The method of this token.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}
