//! Keeps the English plain: phrases that readers stumbled over, each with what to write instead, are looked for in
//! what users read (README, `docs/`, `config/`, the program's own strings and help) and in the comments of `src/`.
//!
//! There are none. What users read does without some more words, which have a place in comments.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A phrase, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("a quarter of a minute", "15 seconds"),
    ("a slip of the hand", "a typo"),
    ("answer of our own", "a response that evenly generates"),
    ("answers of our own", "responses that evenly generates"),
    ("any longer", "no longer"),
    ("are told", "are notified, are logged, get"),
    ("as good as", "counts as, equals"),
    ("as it may", "as often as it is allowed to, the threshold"),
    ("as they may", "the limit, the threshold"),
    ("at a time of", "at different times"),
    ("be had", "be available, be created, be permitted"),
    ("be told", "be notified, be logged"),
    ("been told", "been notified, been logged"),
    ("before servers", "in front of servers"),
    ("brought along", "included; glue, of DNS records"),
    ("came about", "arose, was caused by"),
    ("came of", "the result of"),
    ("came to", "the result of, reached"),
    ("come about", "arise"),
    ("comes to pass", "happens"),
    ("for ever", "forever"),
    ("for want of", "for lack of"),
    ("calls a request", "calls per request"),
    ("clients a second", "clients per second"),
    ("connections a second", "connections per second"),
    ("CPU a request", "CPU per request"),
    ("go by", "use, are configured by"),
    ("goes by", "uses, is configured by"),
    ("holds up", "delays"),
    ("in a row", "consecutive"),
    ("in part only", "partially"),
    ("is no such", "is not a valid"),
    ("requests a second", "requests per second"),
    ("is told", "is notified, is logged, gets"),
    ("is there twice", "is a duplicate"),
    ("life sign", "sign of life"),
    ("nobody knows", "it is not known"),
    ("of late", "recently"),
    ("on the part of", "by"),
    ("once more", "again; a retry"),
    ("over the servers", "across the servers"),
    ("was told", "was notified, was logged, got"),
    ("were told", "were notified, were logged, got"),
    ("who must know", "who is authoritative"),
];

/// Words that have a place in comments, and none in what users read.
const FOR_USERS: &[(&str, &str)] = &[
    ("at once", "immediately; at the same time"),
    ("anew", "again"),
    ("cannot be reached any", "is no longer reachable"),
    ("thereby", "by that"),
    ("twice in succession", "twice"),
];

/// Files whose every word users read, beside `docs/` and `config/`.
const USERS: &[&str] = &[
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "RELEASING.md",
    "Makefile",
    "src/cli.rs",
];

/// These name the phrases in order to warn of them; the last is written by a program from measurements.
const SPARED: &[&str] = &["CONTRIBUTING.md", "docs/glossary.md", "docs/benchmarks.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The files below a folder that end in one of `endings`, by their paths from the root, sorted.
fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                let path = path.strip_prefix(root()).expect("below the root");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Text in lower case with single spaces, each byte with its line: comment marks and quotes at the start of a line do not
/// come between two words.
struct Flat {
    text: String,
    lines: Vec<usize>,
}

impl Flat {
    fn of(text: &str) -> Flat {
        let mut flat = Flat { text: String::new(), lines: Vec::new() };
        for (at, line) in text.lines().enumerate() {
            let words = line.trim_start().trim_start_matches(['/', '!', '#', '>', '*', '|']);
            for word in words.split_whitespace() {
                let word = word.trim_end_matches('\\').to_lowercase();
                flat.text.push_str(&word);
                flat.text.push(' ');
                flat.lines.resize(flat.text.len(), at + 1);
            }
        }
        flat
    }

    /// The lines where a phrase begins. It has no letter on either side.
    fn find(&self, phrase: &str) -> Vec<usize> {
        let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        self.text
            .match_indices(phrase)
            .filter(|(at, _)| {
                let bytes = self.text.as_bytes();
                !is_letter(at.checked_sub(1).and_then(|at| bytes.get(at)))
                    && !is_letter(bytes.get(at + phrase.len()))
            })
            .map(|(at, _)| self.lines[at])
            .collect()
    }
}

/// The string literals of a source file, outside tests and comments, each with its line.
fn strings(text: &str) -> Vec<(String, usize)> {
    fn walk(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    // An inner attribute, `#![..]`, has one sign more.
                    tokens
                        .next_if(|next| matches!(next, TokenTree::Punct(p) if p.as_char() == '!'));
                    let Some(TokenTree::Group(attribute)) = tokens.peek().cloned() else {
                        continue;
                    };
                    if attribute.delimiter() != Delimiter::Bracket {
                        continue;
                    }
                    tokens.next();
                    let attribute = attribute.stream().to_string().replace(' ', "");
                    if attribute.starts_with("cfg(test)") || attribute.starts_with("cfg(all(test") {
                        let is_end = |token: &TokenTree| match token {
                            TokenTree::Punct(punct) => punct.as_char() == ';',
                            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                            _ => false,
                        };
                        while tokens.next().is_some_and(|token| !is_end(&token)) {}
                    }
                }
                TokenTree::Group(group) => walk(group.stream(), found),
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    if text.starts_with(['"', 'r']) {
                        found.push((text, literal.span().start().line));
                    }
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(TokenStream::from_str(text).expect("Rust"), &mut found);
    found
}

fn is_for_tests(file: &str) -> bool {
    file.split('/').any(|part| part.trim_end_matches(".rs") == "tests")
}

fn sources() -> Vec<String> {
    files("src", &[".rs"]).into_iter().filter(|file| !is_for_tests(file)).collect()
}

/// `file:line: "phrase"; write: ...` for each phrase in a text that begins at `first`.
fn faults(file: &str, text: &str, first: usize, phrases: &[&[(&str, &str)]]) -> Vec<String> {
    let flat = Flat::of(text);
    let phrases = phrases.iter().copied().flatten();
    phrases
        .flat_map(|(phrase, instead)| {
            flat.find(phrase).into_iter().map(move |at| (at, phrase, instead))
        })
        .map(|(at, phrase, instead)| {
            format!("{file}:{}: \"{phrase}\"; write: {instead}", at + first - 1)
        })
        .collect()
}

#[test]
fn what_users_read_is_in_plain_words() {
    let mut texts = files("docs", &[".md"]);
    texts.extend(files("config", &[".toml", ".service"]));
    texts.extend(USERS.iter().map(|&file| file.to_owned()));
    texts.retain(|file| !SPARED.contains(&file.as_str()) && root().join(file).exists());
    let mut all: Vec<String> =
        texts.iter().flat_map(|file| faults(file, &read(file), 1, &[PHRASES, FOR_USERS])).collect();
    for file in sources() {
        for (text, line) in strings(&read(&file)) {
            all.extend(faults(&file, &text, line, &[PHRASES, FOR_USERS]));
        }
    }
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));
}

#[test]
fn the_source_is_in_plain_words() {
    let all: Vec<String> =
        sources().iter().flat_map(|file| faults(file, &read(file), 1, &[PHRASES])).collect();
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));
}

#[test]
fn names_in_the_source_are_in_plain_words() {
    // As one reads them: `in_a_row` is "in a row".
    let spoken = |file: &String| faults(file, &read(file).replace('_', " "), 1, &[PHRASES]);
    let all: Vec<String> = sources().iter().flat_map(spoken).collect();
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));
}

#[test]
fn a_phrase_is_found_across_lines_and_not_within_words() {
    let text = "/// It is sent once\n/// more, and \"in a\\\n    row\" too.\n// arrow in a rowboat";
    let flat = Flat::of(text);
    assert_eq!(flat.find("once more"), [1]);
    assert_eq!(flat.find("in a row"), [2]);
}

#[test]
fn strings_of_tests_and_comments_are_nobodys_text() {
    let text = "//! \"z\"\n/// \"a\"\nconst A: &str = \"b\";\nfn f() { g(\"c {x}\") }\n#[cfg(test)]\nmod tests { const D: &str = \"d\"; }\n#[doc = \"e\"]\nconst F: &str = r\"f\";";
    let found: Vec<(String, usize)> = strings(text);
    let found: Vec<(&str, usize)> =
        found.iter().map(|(text, line)| (text.as_str(), *line)).collect();
    assert_eq!(found, [("\"b\"", 3), ("\"c {x}\"", 4), ("r\"f\"", 8)]);
}
