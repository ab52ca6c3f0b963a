//! The pages lead where they say: every link to a file or a heading, every source file that is named, and every function
//! that is named beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/decisions", "demo"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn name(page: &Path) -> String {
    page.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned()
}

/// The text without fenced blocks, where a link is no link.
fn prose(text: &str) -> String {
    let mut is_fenced = false;
    let outside = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    };
    text.lines().filter(outside).collect::<Vec<&str>>().join("\n")
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let line = line.trim_start_matches('#').trim().to_lowercase();
            let keep = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
            line.chars().filter(keep).map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = prose(&fs::read_to_string(&page).expect("a page"));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") || link.contains(' ') {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            if !target.exists() {
                faults.push(format!("{}: no file {link}", name(&page)));
            } else if !anchor.is_empty()
                && !anchors(&prose(&fs::read_to_string(&target).expect("a page"))).contains(anchor)
            {
                faults.push(format!("{}: no heading {link}", name(&page)));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The spans between backticks, in order.
fn spans(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts: Vec<&str> = text.split('`').collect();
    // Every second part is within backticks; what comes between one and the next tells whether they belong together.
    (1..parts.len().saturating_sub(1))
        .step_by(2)
        .map(move |at| (parts[at], parts[at + 1]))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Where a file that a page names may be.
fn source(file: &str) -> Option<PathBuf> {
    ["src", "", "tests", "docs"]
        .into_iter()
        .map(|folder| root().join(folder).join(file))
        .find(|path| path.is_file())
}

#[test]
fn every_source_file_and_every_function_beside_it_is_there() {
    let mut faults = Vec::new();
    for page in pages() {
        let page_name = name(&page);
        // Written by a program, or of another workspace's sources.
        if page_name.starts_with("docs/benchmarks") || page_name.starts_with("demo/") {
            continue;
        }
        let text = prose(&fs::read_to_string(&page).expect("a page"));
        let mut beside: Option<(PathBuf, &str)> = None;
        for (span, behind) in spans(&text) {
            let is_ident = span.chars().all(|c| c.is_ascii_alphanumeric() || "_:()".contains(c));
            if let Some((file, told)) = beside.take()
                && is_ident
            {
                let last = span.trim_end_matches("()").rsplit("::").next().unwrap_or(span);
                let source = fs::read_to_string(&file).expect("a source file");
                if !source.contains(last) {
                    faults.push(format!("{page_name}: `{told}` has no `{span}`"));
                }
            }
            if span.ends_with(".rs") && span.contains('/') && !span.contains(' ') {
                match source(span) {
                    None => faults.push(format!("{page_name}: there is no `{span}`")),
                    // A name directly behind the file, perhaps in brackets, is a name in it.
                    Some(file) => {
                        beside = [" ", " (", "\n"].contains(&behind).then_some((file, span));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
