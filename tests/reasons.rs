//! The reasons are data (`evenly::reason`), and the page about them says the same.
//!
//! `UPDATE=1 cargo test --test reasons` writes `docs/reasons.md` again.

use std::fmt::Write as _;
use std::path::Path;

use evenly::config::keys::{self, TABLES};
use evenly::http::Fault;
use evenly::reason::{Cause, Incident, Party, Reason};

const INTRODUCTION: &str = "\
# Reasons

Every response that evenly generates, every exchange that it cuts, every retry, every ejection and every health check that fails has
exactly one of the reasons below. It is the same word everywhere:

- in the access log as `reason`, with the `detail` that the parser found if a message was not valid;
- in the log's lines about targets, as `reason: connection_refused` at their end;
- as the label `reason` of `evenly_own_responses_total`, `evenly_exchanges_cut_total`, `evenly_retries_total`,
  `evenly_ejections_total` and `evenly_health_check_failures_total`, beside `party`: whose doing it is (`client`, `target`, `evenly`);
- in `/status`, under `reasons`, by event;
- in the `Proxy-Status` field of a response that evenly generates, as its `error` (`proxy_status` in the configuration): `Proxy-Status:
  evenly; error=connection_refused`. To clients of `trusted_proxies` it says the detail as well.

Words marked with * are error types of RFC 9209 section 2.3; the others are evenly's own, since that RFC has no type for them. A response
to `OPTIONS` with `Max-Forwards: 0` is no failure and has none; neither has a tunnel that one of its ends closed.

This page is generated from `src/reason.rs`.
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let parties = [
        (Party::Client, "The client"),
        (Party::Target, "The target"),
        (Party::Own, "Evenly, its configuration or its host"),
    ];
    for (party, title) in parties {
        let _ = writeln!(page, "\n## {title}");
        for reason in Reason::ALL.iter().filter(|reason| reason.party() == party) {
            let star = if reason.is_registered() { "*" } else { "" };
            let events = Incident::ALL.into_iter().filter(|&event| reason.can_be_of(event));
            let events: Vec<&str> = events.map(Incident::word).collect();
            let _ = writeln!(page, "\n### {reason}{star}\n\n{}\n", reason.meaning());
            let _ = writeln!(page, "- Of: {}", events.join(", "));
            let _ = writeln!(page, "- Usual cause: {}", reason.cause());
            let _ = writeln!(page, "- Remedy: {}", reason.remedy());
        }
    }
    page.push_str(
        "\n## Details\n\nWhat is wrong with a message, as the parser says it. The last columns are the reasons that it comes to.\n\n\
         | detail | what | in a request | in a response |\n| --- | --- | --- | --- |\n",
    );
    for &fault in Fault::ALL {
        let (request, response) = (Cause::of_request(fault), Cause::of_response(fault));
        let _ = writeln!(
            page,
            "| `{}` | {} | `{}` | `{}` |",
            fault.name(),
            fault.why(),
            request.reason,
            response.reason
        );
    }
    page
}

/// Names of keys in a text: a table of the file, a point, and a word.
fn keys_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')));
    let words = words.map(|word| word.trim_end_matches('.'));
    words.filter(|word| {
        let table = word.split_once('.').map(|(table, _)| table);
        TABLES.iter().any(|known| Some(known.name) == table)
    })
}

#[test]
fn what_a_reason_says_to_change_is_a_key_of_the_configuration() {
    let mut count = 0;
    for reason in Reason::ALL {
        for text in [reason.meaning(), reason.cause(), reason.remedy()] {
            for name in keys_in(text) {
                assert!(keys::find(name).is_ok(), "{reason}: there is no key {name}");
                count += 1;
            }
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn the_page_says_what_the_program_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reasons.md");
    let expected = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).expect("a file that can be written");
    }
    let text = std::fs::read_to_string(&path).expect("a file of this repository");
    let differ = text.lines().zip(expected.lines()).find(|(is, should)| is != should);
    assert!(text == expected, "UPDATE=1 cargo test --test reasons writes it: {differ:?}");
}
