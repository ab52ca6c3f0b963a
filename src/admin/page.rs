//! The page at `/`: what is drawn there, as a browser gets it. Pure.
//!
//! Its style and its script are paths of their own rather than parts of it: the policy then needs neither a hash, which each change
//! would make wrong, nor a random number for each response, and allows nothing inline at all. It loads nothing from
//! anywhere else.

use std::fmt::Write as _;

use crate::balance::Unresolved;

use super::status;
use super::view::View;

const PAGE: &str = include_str!("page/page.html");
/// How it looks.
pub(super) const STYLE: &str = include_str!("page/page.css");
/// What draws it.
pub(super) const SCRIPT: &str = include_str!("page/page.js");

/// What a browser lets a page from here do, as fields of a head: to load its style and its script, and to ask where it came from. Its
/// script cannot turn a text into HTML. No page shows it in a frame, where somebody could be made to click without seeing
/// on what.
pub(super) const FIELDS: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/// The page, with these paths and what is there as links. What it says of `view` is for browsers without scripts.
pub(super) fn render<'a>(view: &View, paths: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let summary = format!(
        "{} for {} s; endpoints: {} of {} healthy; client connections: {} of at most {}",
        status::name(view.stage),
        view.uptime.as_secs(),
        view.snapshot.healthy_count(),
        view.snapshot.endpoints().len(),
        view.connections(),
        view.cap,
    );
    let mut links = String::new();
    for (path, what) in paths {
        // Writing to a string cannot fail.
        let _ = writeln!(links, "<li><a href=\"{path}\">{path}</a>: {what}</li>");
    }
    let mut unresolved = String::new();
    for Unresolved { target, reason } in view.snapshot.unresolved() {
        let _ = writeln!(unresolved, "<li>{}: {}</li>", escaped(target), escaped(reason));
    }
    if !unresolved.is_empty() {
        unresolved = format!(
            "<noscript><p>Targets without an address:</p>\n<ul>\n{unresolved}</ul></noscript>\n"
        );
    }
    // What a target is called comes last: it may look like one of the other places.
    PAGE.replace("{version}", view.version)
        .replace("{summary}", &summary)
        .replace("{paths}", &links)
        .replace("{unresolved}\n", &unresolved)
}

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_there_is_without_a_script() {
        let page = render(&View::sample(), [("/a", "what")].into_iter());
        assert!(page.contains("<li><a href=\"/a\">/a</a>: what</li>"), "{page}");
        assert!(page.contains(
            "running for 12 s; endpoints: 1 of 2 healthy; client connections: 5 of at most 500"
        ));
        assert!(page.contains("<li>api-2:80: no name server responded</li>"), "{page}");
        assert!(!page.contains('{'), "{page}");
        assert_eq!(escaped("<a&b>"), "&lt;a&amp;b&gt;");
    }

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        for part in ["<style", " style=", " onclick=", "<script>", "://", "innerHTML", "eval("] {
            assert!(!PAGE.contains(part), "{part}");
            let is_name = part == "://";
            assert!(is_name || !SCRIPT.contains(part), "{part}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
