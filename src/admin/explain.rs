//! What would become of a request: whether it is refused, and which endpoints could take it, and why each other one could not. Pure.

use serde::Serialize;

use crate::balance::{Endpoint, EndpointState};
use crate::base::text::quiet_json;
use crate::http1::{FieldSpace, HeadLimits, Progress, parse_request};

use super::answer::decoded;
use super::view::View;

/// What is asked about: the members of the query.
#[derive(Debug, Default, PartialEq, Eq)]
struct Question {
    method: String,
    url: String,
    headers: Vec<String>,
}

#[derive(Serialize)]
struct Explanation<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    /// Where it would have to come in.
    listeners: Vec<String>,
    /// Why it is answered by evenly itself, if it is.
    refused: Option<RefusalRow>,
    endpoints: Vec<EndpointChoice>,
}

#[derive(Serialize)]
struct RefusalRow {
    status: u16,
    reason: &'static str,
}

/// An endpoint, and whether it could take the request.
#[derive(Serialize)]
struct EndpointChoice {
    target: String,
    address: String,
    eligible: bool,
    why: String,
}

/// The answer to a query such as `method=GET&url=http://a/b&header=X:%20y`.
///
/// # Errors
/// What is wrong with the query, and what to write instead.
pub(super) fn render(query: &str, view: &View) -> Result<String, String> {
    let question = question(query)?;
    let (host, path) = parts(&question.url)?;
    let head = head(&question, host, path)?;
    let limits = view.snapshot.plan.limits;
    let limits = HeadLimits { bytes: limits.head, fields: limits.headers };
    let refused = match parse_request(head.as_bytes(), limits, &mut FieldSpace::new()) {
        Ok(Progress::Complete(_)) => None,
        Ok(Progress::Partial) => return Err("header: a head that has no end".to_owned()),
        Err(fault) => Some(RefusalRow { status: fault.status(), reason: fault.why() }),
    };
    let explanation = Explanation {
        method: &question.method,
        host,
        path,
        listeners: view.snapshot.plan.listen.iter().map(ToString::to_string).collect(),
        refused,
        endpoints: candidates(view),
    };
    // Plain values under fixed keys always serialize; an empty body would be the visible sign that they did not.
    let text = quiet_json(serde_json::to_string_pretty(&explanation).unwrap_or_default());
    Ok(text + "\n")
}

fn question(query: &str) -> Result<Question, String> {
    let mut question = Question { method: "GET".to_owned(), ..Question::default() };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = decoded(value).and_then(|value| String::from_utf8(value).ok());
        let value = value.ok_or_else(|| format!("{name}: it is not percent-encoded UTF-8"))?;
        if value.contains(|c: char| c.is_control()) {
            return Err(format!("{name}: it has a control character"));
        }
        match name {
            "method" => question.method = value,
            "url" => question.url = value,
            "header" => question.headers.push(value),
            other => return Err(format!("{other:?} is unknown; method, url and header are taken")),
        }
    }
    Ok(question)
}

/// Host and path of a URL; of a path alone there is no host.
fn parts(url: &str) -> Result<(&str, &str), String> {
    const FORM: &str = "write url=http://HOST/PATH, or url=/PATH";
    if url.starts_with('/') {
        return Ok(("", url));
    }
    if url.starts_with("https://") {
        return Err(format!(
            "evenly has no listener for https; what stands before it sends http: {FORM}"
        ));
    }
    let rest = url.strip_prefix("http://").ok_or(FORM)?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    if host.is_empty() || path.starts_with('?') {
        return Err(FORM.to_owned());
    }
    Ok((host, if path.is_empty() { "/" } else { path }))
}

/// The head that a client would send.
fn head(question: &Question, host: &str, path: &str) -> Result<String, String> {
    let mut head = format!("{} {path} HTTP/1.1\r\n", question.method);
    let named = |field: &&String| field.to_ascii_lowercase().starts_with("host:");
    if question.headers.iter().find(named).is_none() {
        let host = if host.is_empty() { "localhost" } else { host };
        head += &format!("Host: {host}\r\n");
    }
    for field in &question.headers {
        if !field.contains(':') {
            return Err(format!("header: {field:?} has no colon; write header=NAME:%20VALUE"));
        }
        head += &format!("{field}\r\n");
    }
    Ok(head + "\r\n")
}

fn candidates(view: &View) -> Vec<EndpointChoice> {
    let snapshot = &view.snapshot;
    let (turns, round) = snapshot.turns();
    let details = snapshot.details();
    let row = |(at, endpoint): (usize, &Endpoint)| {
        let reason = details.get(at).and_then(|cell| cell.get().why.clone());
        EndpointChoice {
            target: endpoint.target.to_string(),
            address: endpoint.address.to_string(),
            eligible: endpoint.healthy(),
            why: why(endpoint, reason.as_deref(), (turns[at], round)),
        }
    };
    let unresolved = snapshot.unresolved().iter().map(|it| EndpointChoice {
        target: it.target.to_string(),
        address: String::new(),
        eligible: false,
        why: format!("it has no address: {}", it.reason),
    });
    snapshot.endpoints().iter().enumerate().map(row).chain(unresolved).collect()
}

fn why(endpoint: &Endpoint, reason: Option<&str>, (turns, round): (u32, u32)) -> String {
    let because = |what: &str| match reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    };
    match endpoint.state {
        EndpointState::Up if turns > 0 => format!("it has {turns} of {round} turns"),
        EndpointState::Up => {
            "it stands by: others of its target have a lower priority number, or the host's turns"
                .to_owned()
        }
        EndpointState::Down => because("its checks fail"),
        EndpointState::Ejected => because("it is ejected, for it failed requests"),
        EndpointState::Unknown => "no check of it has ended yet".to_owned(),
        EndpointState::Drained => "it is drained by hand (evenly auto puts it back)".to_owned(),
        EndpointState::Disabled => "it is down by hand (evenly auto puts it back)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn explained(query: &str) -> Value {
        serde_json::from_str(&render(query, &View::sample()).unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_refused_or_may_go_to_those_that_are_up() {
        let seen = explained("url=http://a.example:80/b?c&header=X:%20y");
        assert_eq!((&seen["host"], &seen["path"]), (&json!("a.example:80"), &json!("/b?c")));
        assert_eq!(seen["refused"], json!(null));
        assert_eq!(seen["endpoints"][0]["why"], json!("it has 1 of 1 turns"));
        assert_eq!(seen["endpoints"][1]["eligible"], json!(false));
        assert_eq!(
            seen["endpoints"][2]["why"],
            json!("it has no address: no name server responded")
        );
        let seen = explained("url=/&method=CONNECT");
        assert!(seen["refused"]["status"].as_u64() >= Some(400), "{seen}");
        let seen =
            explained("url=/&header=Content-Length:%201&header=Transfer-Encoding:%20chunked");
        assert_eq!(seen["refused"]["status"], json!(400));
    }

    #[test]
    fn what_is_wrong_with_a_question_is_said() {
        for (query, said) in [
            ("", "write url="),
            ("url=ftp://a", "write url="),
            ("url=http://", "write url="),
            ("url=https://a/", "no listener for https"),
            ("url=/&x=y", "\"x\" is unknown"),
            ("url=/%0d%0aX:%20y", "control character"),
            ("url=/%zz", "percent-encoded"),
            ("url=/&header=x", "no colon"),
        ] {
            let why = render(query, &View::sample()).unwrap_err();
            assert!(why.contains(said), "{query}: {why}");
        }
    }
}
