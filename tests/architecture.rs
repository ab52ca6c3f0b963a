//! Keeps the rooms of `src/` apart: an import that runs upward or sideways fails here, and so does
//! a socket, a clock or a lock named in a room that must work without.
//!
//! Owns the table of rooms. It reads source as tokens, so comments and strings do not count; nor does code that is
//! only compiled for tests. It knows names, not types: it keeps honest people from slipping, not dishonest ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The longest file, in lines.
const MAX_LINES: usize = 1_000;
/// The longest function, in lines.
const MAX_FUNCTION: usize = 70;
/// Where `engine/` may leave a function for a state that it takes for impossible, or does not explain, without counting it.
const MAX_SILENT: usize = 12;
/// The files of `engine/` that all others there are written on.
const HUBS: &[&str] = &["pump"];

/// One room: a folder or a file directly below `src/`.
struct Room {
    name: &'static str,
    /// What it may import: rooms, or paths within one.
    imports: &'static [&'static str],
    /// What it must work without.
    without: &'static [&'static Ban],
}

/// Names that must not appear.
struct Ban {
    /// Names of types and crates, wherever they stand.
    words: &'static [&'static str],
    /// Paths, with all that is below them.
    paths: &'static [&'static str],
    /// What to do instead.
    instead: &'static str,
}

const SOCKETS: Ban = Ban {
    words: &[
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "UnixListener",
        "UnixDatagram",
        "ToSocketAddrs",
        "socket2",
        "rustix",
    ],
    paths: &[],
    instead: "sockets belong to worker and health; take bytes, or be generic over `engine::Net`",
};
const CLOCKS: Ban = Ban {
    words: &["Instant", "SystemTime", "UNIX_EPOCH"],
    paths: &[],
    instead: "take the time as an argument, a `base::tick::Tick`; the worker reads the clock once a turn",
};
const LOCKS: Ban = Ban {
    words: &["Mutex", "RwLock", "Condvar", "JoinHandle"],
    paths: &["std::thread", "std::sync::mpsc", "crossbeam::channel", "crossbeam::sync"],
    instead: "own the value, publish it whole through `balance::Shared`, or count it in an atomic; threads belong to server",
};
const OUTSIDE: Ban = Ban {
    words: &["println", "eprintln"],
    paths: &["std::fs", "std::env", "std::process"],
    instead: "take the value as an argument; files, variables and the terminal belong to config, cli and main",
};
const DYN: Ban = Ban {
    words: &["dyn"],
    paths: &[],
    instead: "use a type parameter or an enum: no call of a request is dispatched at run time",
};
const MIO: Ban = Ban {
    words: &["mio"],
    paths: &[],
    instead: "worker is the only room that names mio; be generic over `engine::Net`",
};
const UNSAFE: Ban = Ban {
    words: &["unsafe"],
    paths: &[],
    instead: "there is none in this source; a safe crate (rustix, socket2) has most of what it is wanted for",
};

const ASYNC: Ban = Ban {
    words: &["tokio", "hickory_resolver", "hickory_proto", "async", "await"],
    paths: &[],
    instead: "only lookups of names are asynchronous; a worker and the health thread wait in their own poll, others block",
};

const PURE: &[&Ban] = &[&SOCKETS, &CLOCKS, &LOCKS, &OUTSIDE, &DYN];

/// Every room, the uppermost first: a room imports only from rows below its own.
const ROOMS: &[Room] = &[
    Room { name: "lib", imports: &[], without: PURE },
    Room {
        name: "main",
        imports: &["cli", "server", "top", "remote", "config", "settings", "token", "base::log"],
        without: &[],
    },
    Room { name: "cli", imports: &["config", "settings", "base"], without: &[&SOCKETS, &LOCKS] },
    Room {
        name: "server",
        imports: &[
            "worker", "health", "admin", "remote", "config", "command", "token", "access",
            "balance", "metrics", "settings", "base",
        ],
        without: &[],
    },
    Room { name: "top", imports: &["remote"], without: PURE },
    Room { name: "remote", imports: &["reason", "token", "settings", "base::text"], without: &[] },
    Room {
        name: "admin",
        imports: &[
            "worker",
            "access::TextPart",
            "access::recorder",
            "access::render",
            "balance",
            "metrics",
            "http",
            "http1",
            "reason",
            "command",
            "token",
            "settings",
            "base",
        ],
        without: &[],
    },
    Room {
        name: "worker",
        imports: &["engine", "access", "balance", "metrics", "settings", "base"],
        without: &[],
    },
    Room {
        name: "health",
        imports: &["balance", "metrics", "http1", "reason", "settings", "base"],
        without: &[],
    },
    Room { name: "config", imports: &["settings"], without: &[&SOCKETS, &CLOCKS, &LOCKS] },
    Room {
        name: "engine",
        imports: &[
            "exchange",
            "access",
            "http1::head::HeadLimits",
            "http1::ClientAddress",
            "http1::ClientHalf",
            "http1::ServerHalf",
            "balance",
            "metrics",
            "reason",
            "settings",
            "base",
        ],
        without: PURE,
    },
    Room {
        name: "exchange",
        imports: &[
            "http1",
            "access::push_part",
            "access::push_refused",
            "reason",
            "settings::ProxyStatus",
            "base",
        ],
        without: PURE,
    },
    Room { name: "access", imports: &["metrics", "reason", "settings", "base"], without: PURE },
    Room {
        name: "balance",
        imports: &["metrics", "reason", "settings", "base::address", "base::ledger", "base::sync"],
        without: PURE,
    },
    Room { name: "metrics", imports: &["reason"], without: PURE },
    Room { name: "http1", imports: &["http", "reason", "base::decimal"], without: PURE },
    Room { name: "reason", imports: &["http::Fault"], without: PURE },
    Room { name: "http", imports: &[], without: PURE },
    Room { name: "command", imports: &["settings"], without: &[] },
    Room { name: "token", imports: &[], without: &[&CLOCKS, &LOCKS, &DYN] },
    Room { name: "settings", imports: &[], without: PURE },
    Room { name: "base", imports: &[], without: PURE },
];

/// Files that may name what their room must work without.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    // A log line has a date, and its level comes from the environment.
    ("base/log.rs", &["SystemTime", "UNIX_EPOCH", "std::env", "std::thread"]),
    // A thread of its own writes to standard error; whoever logs sees a queue that never makes anybody wait.
    ("base/stderr.rs", &["Instant", "Mutex", "Condvar"]),
    ("base/thread.rs", &["Instant", "std::thread", "JoinHandle"]),
    ("base/lines.rs", &["rustix", "std::thread"]),
    // It is the one file of its room that has the terminal, the clock and the question.
    ("top/terminal.rs", &["Instant", "std::thread", "std::sync::mpsc", "std::env", "rustix"]),
    // An entry has a date.
    ("access/render.rs", &["SystemTime", "UNIX_EPOCH"]),
    ("access/dates.rs", &["SystemTime", "UNIX_EPOCH"]),
    ("access/recorder.rs", &["SystemTime", "UNIX_EPOCH"]),
    // A thread of its own writes a file; workers only see a channel that never makes them wait.
    ("access/writer.rs", &["Instant", "std::thread", "crossbeam::channel", "std::fs"]),
    // A configuration may come through a pipe, which is waited for no longer than a bound.
    ("config/source.rs", &["rustix"]),
    // What is shown to people has a date, and says how long ago that was.
    ("balance/detail.rs", &["Instant", "SystemTime"]),
    // It rings once for each snapshot, not for requests, and who listens has the sockets that this room must not name.
    ("balance/bell.rs", &["dyn"]),
    // Names are looked up on a thread of their own, by a library that is asynchronous.
    ("health/dns.rs", &["hickory_resolver", "tokio", "async", "await"]),
    ("health/resolve.rs", &["tokio", "async", "await"]),
    ("health/servers.rs", &["hickory_resolver", "tokio", "async", "await"]),
    ("health/sockets.rs", &["hickory_resolver", "async", "await"]),
];

/// A path as it stands in the source, groups taken apart.
struct Name {
    segments: Vec<String>,
    glob: bool,
    /// The module it stands in, as seen from the crate.
    module: Vec<String>,
    line: usize,
}

/// All paths of one file that are not only for tests. A word that stands alone is a path too.
#[derive(Default)]
struct Names(Vec<Name>);

impl Names {
    fn of(file: &str, text: &str) -> Names {
        let tokens = TokenStream::from_str(text)
            .unwrap_or_else(|error| panic!("src/{file} is not Rust: {error}"));
        let mut names = Names::default();
        names.walk(tokens, &module_of(file));
        names
    }

    fn walk(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        while !rest.is_empty() {
            rest = &rest[self.step(rest, module)..];
        }
    }

    /// Looks at what begins here, and says how many tokens it takes.
    fn step(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        match tokens {
            [TokenTree::Punct(hash), TokenTree::Group(attribute), ..]
                if hash.as_char() == '#' && is_cfg_test(&attribute.stream()) =>
            {
                item_length(tokens)
            }
            [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..]
                if word == "mod" =>
            {
                self.walk(body.stream(), &[module, &[name.to_string()]].concat());
                3
            }
            [TokenTree::Ident(_), ..] => self.path(tokens, &[], module),
            [TokenTree::Group(group), ..] => {
                self.walk(group.stream(), module);
                1
            }
            _ => 1,
        }
    }

    /// Takes a path that goes on from `prefix`, and says how many tokens it took.
    fn path(&mut self, tokens: &[TokenTree], prefix: &[String], module: &[String]) -> usize {
        let (mut segments, mut glob, mut taken) = (prefix.to_vec(), false, 0);
        let Some(first) = tokens.first() else { return 0 };
        let line = first.span().start().line;
        loop {
            match tokens.get(taken) {
                Some(TokenTree::Ident(segment)) => segments.push(segment.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => glob = true,
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.branches(group.stream(), &segments, module);
                    return taken + 1;
                }
                // What follows the colons are arguments of a generic, as in `Vec::<u8>::new`.
                _ => break,
            }
            taken += 1;
            if !starts_with_colons(&tokens[taken..]) {
                break;
            }
            taken += 2;
        }
        self.0.push(Name { segments, glob, module: module.to_vec(), line });
        taken.max(1)
    }

    /// The branches of `prefix::{one, other::{…}}`.
    fn branches(&mut self, tokens: TokenStream, prefix: &[String], module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_comma =
            |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
        for branch in tokens.split(is_comma).filter(|branch| !branch.is_empty()) {
            self.path(branch, prefix, module);
        }
    }
}

fn starts_with_colons(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(one), TokenTree::Punct(two), ..]
        if one.as_char() == ':' && one.spacing() == Spacing::Joint && two.as_char() == ':')
}

fn is_cfg_test(attribute: &TokenStream) -> bool {
    ["cfg(test)", "cfg(all(test,loom))"].contains(&attribute.to_string().replace(' ', "").as_str())
}

/// From an attribute to the end of the item that it is for.
fn item_length(tokens: &[TokenTree]) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1)
}

/// The module a file of `src/` is, as seen from the crate.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| !["main", "lib"].contains(part)).map(str::to_owned).collect()
}

fn room_of(file: &str) -> &str {
    file.trim_end_matches(".rs").split('/').next().unwrap_or(file)
}

/// Where in this crate a path leads; `None` if it leads to another crate or to something local.
fn within_crate(name: &Name, room: &str) -> Option<Vec<String>> {
    let (first, rest) = name.segments.split_first()?;
    let mut at = match first.as_str() {
        // The program sees the library as another crate.
        "evenly" if room == "main" => return Some(rest.to_vec()),
        "crate" => return Some(rest.to_vec()),
        "self" | "super" => name.module.clone(),
        _ => return None,
    };
    for segment in &name.segments {
        match segment.as_str() {
            "self" => {}
            "super" => drop(at.pop()),
            other => at.push(other.to_owned()),
        }
    }
    Some(at)
}

/// Does the path `whole` lie at `part` or below?
fn is_below(whole: &[String], part: &str) -> bool {
    let part: Vec<&str> = part.split("::").collect();
    whole.len() >= part.len() && whole.iter().zip(part).all(|(one, other)| one == other)
}

/// Why `room` may not import what the path leads to.
fn import_fault(name: &Name, room: &Room) -> Option<String> {
    let to = within_crate(name, room.name)?;
    let at_once = || Some("imports every room at once; name the ones it needs".to_owned());
    let target = match to.first() {
        None => return at_once().filter(|_| name.glob),
        Some(all) if all == "self" => return at_once(),
        Some(target) => target,
    };
    if target == room.name || room.imports.iter().any(|allowed| is_below(&to, allowed)) {
        return None;
    }
    let row = |name: &str| ROOMS.iter().position(|room| room.name == name);
    let direction = match row(target) {
        None => {
            return Some(format!(
                "imports `{target}`, which is no room of the table in tests/architecture.rs"
            ));
        }
        Some(other) if Some(other) < row(room.name) => "upward",
        Some(_) => "sideways or past the seam",
    };
    Some(format!(
        "imports `{}`, which runs {direction}; `{}` may import only [{}]: hand the value in, or move it to a room below both",
        to.join("::"),
        room.name,
        room.imports.join(", ")
    ))
}

/// What the path names although `ban` forbids it.
fn banned<'n>(name: &'n Name, ban: &'n Ban) -> Option<&'n str> {
    let word = name.segments.iter().find(|segment| ban.words.contains(&segment.as_str()));
    let path = || {
        ban.paths.iter().copied().find(|path| {
            is_below(&name.segments, path)
                || name.glob && path.starts_with(&format!("{}::", name.segments.join("::")))
        })
    };
    word.map(String::as_str).or_else(path)
}

/// Why a path may not name what it names.
fn ban_fault(name: &Name, room: &Room, exceptions: &[&str]) -> Option<String> {
    let mio = (room.name != "worker").then_some(&MIO);
    let bans = room.without.iter().copied().chain(mio).chain([&UNSAFE, &ASYNC]);
    bans.filter_map(|ban| Some((banned(name, ban)?, ban.instead)))
        .find(|(what, _)| !exceptions.contains(what))
        .map(|(what, instead)| format!("names `{what}` in `{}`: {instead}", room.name))
}

/// Everything that is wrong with a file, given by its path below `src/`.
fn faults(file: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!(
            "src/{file}: {lines} lines, more than {MAX_LINES}: split it by what its parts own"
        ));
    }
    if is_for_tests(file) {
        return faults;
    }
    let Some(room) = ROOMS.iter().find(|room| room.name == room_of(file)) else {
        faults.push(format!("src/{file}: a new room: give it a row in tests/architecture.rs"));
        return faults;
    };
    let exceptions = EXCEPTIONS.iter().find(|(excepted, _)| *excepted == file);
    let exceptions = exceptions.map_or(&[][..], |(_, names)| names);
    for name in &Names::of(file, text).0 {
        let found = [import_fault(name, room), ban_fault(name, room, exceptions)];
        faults.extend(
            found.into_iter().flatten().map(|why| format!("src/{file}:{}: {why}", name.line)),
        );
    }
    faults
}

/// Test modules that are files of their own.
fn is_for_tests(file: &str) -> bool {
    file.split('/').any(|part| part.trim_end_matches(".rs") == "tests")
}

/// Every source file, by its path below `src/`.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name =
                    path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                files.push((name, fs::read_to_string(&path).expect("a readable file")));
            }
        }
    }
    files
}

/// Types that may share a name, each with the reason. None may.
const NAMESAKES: &[(&str, &str)] = &[];

/// The types that a file defines at its top level, in its modules and in its macros, with their lines. Not those of
/// traits, implementations and functions, which nobody meets elsewhere, nor what is only compiled for tests.
fn types(tokens: TokenStream) -> Vec<(String, usize)> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(rest) = tokens.get(at..).filter(|rest| !rest.is_empty()) {
        at += match rest {
            [TokenTree::Punct(hash), TokenTree::Group(attribute), ..]
                if hash.as_char() == '#' && is_cfg_test(&attribute.stream()) =>
            {
                item_length(rest)
            }
            [TokenTree::Ident(word), TokenTree::Ident(_), TokenTree::Group(body), ..]
                if word == "mod" =>
            {
                found.extend(types(body.stream()));
                3
            }
            [
                TokenTree::Ident(word),
                TokenTree::Punct(_),
                TokenTree::Ident(_),
                TokenTree::Group(arms),
                ..,
            ] if word == "macro_rules" => {
                let arms = arms.stream().into_iter();
                let groups = arms.filter_map(|token| match token {
                    TokenTree::Group(group) => Some(group.stream()),
                    _ => None,
                });
                found.extend(groups.flat_map(types));
                4
            }
            [TokenTree::Ident(kind), TokenTree::Ident(name), ..]
                if ["struct", "enum", "union", "trait", "type"]
                    .contains(&kind.to_string().as_str()) =>
            {
                found.push((name.to_string(), name.span().start().line));
                2
            }
            _ => 1,
        };
    }
    found
}

/// `Name: src/one.rs:1, src/two.rs:2` for each type name that several of the files define, if nothing excuses it.
fn namesakes(sources: &[(String, String)], excused: &[(&str, &str)]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in sources.iter().filter(|(file, _)| !is_for_tests(file)) {
        for (name, line) in types(TokenStream::from_str(text).expect("Rust")) {
            places.entry(name).or_default().push(format!("src/{file}:{line}"));
        }
    }
    places
        .into_iter()
        .filter(|(name, places)| places.len() > 1 && excused.iter().all(|(it, _)| it != name))
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect()
}

#[test]
fn no_two_types_have_one_name() {
    let found = namesakes(&sources(), NAMESAKES);
    assert!(
        found.is_empty(),
        "\n{}\none word for one thing: rename one of them, or give a reason in NAMESAKES\n",
        found.join("\n")
    );
}

#[test]
fn catches_two_types_with_one_name() {
    let find = |one: &str, other: &str, excused: &[(&str, &str)]| {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        namesakes(&[file("base/slab.rs", one), file("http1/head.rs", other)], excused)
    };
    let caught = ["Line: src/base/slab.rs:2, src/http1/head.rs:1"];
    assert_eq!(find("\npub struct Line<'a>(&'a u8);", "enum Line {}", &[]), caught);
    assert_eq!(find("\nmod a { trait Line {} }", "pub(super) type Line = u8;", &[]), caught);
    assert_eq!(
        find("\nunion Line { a: u8 }", "macro_rules! m { () => { pub enum Line {} } }", &[]),
        caught
    );
    let none: [&str; 0] = [];
    assert_eq!(find("struct Line;", "enum Line {}", &[("Line", "a reason")]), none);
    assert_eq!(find("struct Line;", "#[cfg(test)] mod tests { struct Line; }", &[]), none);
    assert_eq!(find("struct Line;", "impl A for B { type Line = u8; } // struct Line;", &[]), none);
    assert_eq!(find("struct Line;", "fn f() { struct Line; let line = Line; }", &[]), none);
}

#[test]
fn the_source_keeps_its_rooms_apart() {
    let sources = sources();
    assert!(sources.len() > ROOMS.len(), "only {} files were found", sources.len());
    let faults: Vec<String> = sources.iter().flat_map(|(file, text)| faults(file, text)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Functions that are not only for tests, with the line where each begins and how many lines it has.
fn functions(stream: TokenStream, found: &mut Vec<(String, usize, usize)>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at..] {
            [TokenTree::Punct(hash), TokenTree::Group(attribute), ..]
                if hash.as_char() == '#' && is_cfg_test(&attribute.stream()) =>
            {
                at += item_length(&tokens[at..]);
                continue;
            }
            [TokenTree::Ident(word), TokenTree::Ident(name), rest @ ..] if word == "fn" => {
                let end = rest.get(item_length(rest).saturating_sub(1));
                if let Some(TokenTree::Group(body)) = end {
                    let first = word.span().start().line;
                    let lines = body.span_close().end().line + 1 - first;
                    found.push((name.to_string(), first, lines));
                }
            }
            [TokenTree::Group(group), ..] => functions(group.stream(), found),
            _ => {}
        }
        at += 1;
    }
}

/// Functions of `text` that are too long.
fn long_functions(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    functions(TokenStream::from_str(text).expect("Rust"), &mut found);
    found.retain(|(_, _, lines)| *lines > MAX_FUNCTION);
    let fault = |(name, line, lines)| {
        format!("src/{file}:{line}: `{name}` has {lines} lines, more than {MAX_FUNCTION}")
    };
    found.into_iter().map(fault).collect()
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let sources = sources();
    let product = sources.iter().filter(|(file, _)| !is_for_tests(file));
    let faults: Vec<String> = product.flat_map(|(file, text)| long_functions(file, text)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    let long = format!("fn f() {{{}}}", "\n".repeat(MAX_FUNCTION));
    assert_eq!(long_functions("a.rs", &long).len(), 1);
    assert_eq!(long_functions("a.rs", &format!("#[cfg(test)] mod tests {{ {long} }}")).len(), 0);
}

/// Lines of `text` where a `let .. else` leaves its function without a word: it neither counts the state as impossible nor says, in
/// a comment above, when that is so.
fn silent_returns(text: &str) -> Vec<usize> {
    let product = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines: Vec<&str> = product.lines().map(str::trim).collect();
    let leaves = |at: &usize| {
        let rest = match lines[*at].split_once("else {") {
            Some((before, rest)) if !before.ends_with("} ") => rest.trim(),
            _ => return false,
        };
        let exit = if rest.is_empty() { lines.get(at + 1).copied().unwrap_or("") } else { rest };
        let value = exit.strip_prefix("return").map(|it| it.trim_end_matches("};").trim());
        value.is_some_and(|it| {
            ["", ";", "false", "false;", "true", "true;"].contains(&it) || it.starts_with("Flow")
        })
    };
    let is_explained = |at: usize| {
        let begins = (0..=at).rev().find(|&line| lines[line].starts_with("let ")).unwrap_or(at);
        begins > 0 && lines[begins - 1].starts_with("// ")
    };
    (0..lines.len()).filter(leaves).filter(|&at| !is_explained(at)).map(|at| at + 1).collect()
}

#[test]
fn what_the_engine_takes_for_impossible_is_counted_and_what_is_not_explained() {
    let sources = sources();
    let engine = sources.iter().filter(|(file, _)| room_of(file) == "engine");
    let silent: Vec<String> = engine
        .flat_map(|(file, text)| {
            silent_returns(text).into_iter().map(move |line| format!("src/{file}:{line}"))
        })
        .collect();
    assert!(
        silent.len() <= MAX_SILENT,
        "{} of {MAX_SILENT}:\n{}\n",
        silent.len(),
        silent.join("\n")
    );
    assert_eq!(silent_returns("let Some(a) = b else { return };"), [1]);
    assert_eq!(silent_returns("let Some(a) = b\nelse {\nreturn false;\n};"), [2]);
    assert_eq!(silent_returns("// It is gone.\nlet Some(a) = b else { return };"), [0; 0]);
    assert_eq!(silent_returns("let Some(a) = b else { return self.impossible(\"c\") };"), [0; 0]);
}

/// A circle of files that import one another, if there is one.
fn circle(edges: &[(String, String)]) -> Option<Vec<String>> {
    let mut left: Vec<&(String, String)> = edges.iter().collect();
    loop {
        // Whoever is imported by nobody that is left is in no circle.
        let before = left.len();
        let imported: Vec<&String> = left.iter().map(|(_, to)| to).collect();
        left.retain(|(from, _)| imported.contains(&from));
        if left.is_empty() {
            return None;
        }
        if left.len() == before {
            return Some(left.iter().map(|(from, to)| format!("{from} -> {to}")).collect());
        }
    }
}

#[test]
fn files_of_the_engine_import_one_another_in_one_direction() {
    let sources = sources();
    let files: Vec<_> = sources.iter().filter(|(file, _)| room_of(file) == "engine").collect();
    let mut edges = Vec::new();
    for (file, text) in &files {
        let from = module_of(file);
        for name in &Names::of(file, text).0 {
            if let Some(to) = within_crate(name, "engine")
                && let [room, module, _, ..] = &to[..]
                && room == "engine"
                && !HUBS.contains(&module.as_str())
                && from.len() == 2
                && from[1] != *module
                && files.iter().any(|(file, _)| module_of(file).get(1) == Some(module))
            {
                edges.push((from[1].clone(), module.clone()));
            }
        }
    }
    edges.sort();
    edges.dedup();
    assert!(edges.len() > 10, "{edges:?}");
    let circle = circle(&edges);
    assert!(circle.is_none(), "{circle:?}");
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert!(goes_round(&[edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("d", "a")]));
    assert!(!goes_round(&[edge("a", "b"), edge("b", "c"), edge("a", "c")]));
}

fn goes_round(edges: &[(String, String)]) -> bool {
    circle(edges).is_some()
}

#[test]
fn every_row_of_the_table_is_a_room_that_exists() {
    let sources = sources();
    for room in ROOMS {
        assert!(sources.iter().any(|(file, _)| room_of(file) == room.name), "{}", room.name);
    }
    for (file, _) in EXCEPTIONS {
        assert!(sources.iter().any(|(source, _)| source == file), "{file}");
    }
}

#[test]
fn the_table_itself_points_downward_only() {
    let row = |name: &str| ROOMS.iter().position(|room| room.name == name).expect("a room");
    for room in ROOMS {
        for import in room.imports {
            let target = import.split("::").next().expect("a name");
            assert!(row(target) > row(room.name), "{} imports {import}", room.name);
        }
    }
}

#[test]
fn the_map_in_lib_rs_has_every_room_in_the_order_of_the_table() {
    let map: Vec<&str> = include_str!("../src/lib.rs")
        .lines()
        .skip_while(|line| !line.starts_with("//! ```text"))
        .skip(1)
        .take_while(|line| !line.starts_with("//! ```"))
        .filter_map(|line| line.strip_prefix("//! ")?.split_whitespace().next())
        .map(|name| name.trim_end_matches(['/']).trim_end_matches(".rs"))
        .collect();
    let table: Vec<&str> = ROOMS.iter().map(|room| room.name).skip(1).collect();
    assert_eq!(map, table);
}

/// The names in the first column of the table that follows `heading`: of files and folders, as modules.
fn first_column(page: &str, heading: &str) -> Vec<String> {
    let lines = page.lines().map(|line| line.trim_start_matches("//! "));
    let rows = lines.skip_while(|line| !line.starts_with(heading)).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|name| name.trim_end_matches('/').trim_end_matches(".rs").to_owned())
        .collect()
}

#[test]
fn the_table_in_design_md_has_every_room_in_that_order() {
    let page = first_column(include_str!("../docs/design.md"), "| room |");
    let table: Vec<&str> =
        ROOMS.iter().map(|room| room.name).filter(|&name| name != "lib").collect();
    assert_eq!(page, table);
}

#[test]
fn a_table_of_the_files_of_a_room_has_each_of_them() {
    let tables = [
        ("admin", include_str!("../src/admin/mod.rs")),
        ("engine", include_str!("../docs/design.md")),
        ("health", include_str!("../src/health/mod.rs")),
        ("top", include_str!("../src/top/mod.rs")),
    ];
    let sources = sources();
    for (room, page) in tables {
        let mut told = first_column(page, "| file |");
        told.sort();
        let files = sources.iter().filter(|(file, _)| room_of(file) == room && !is_for_tests(file));
        let files = files.filter_map(|(file, _)| module_of(file).get(1).cloned());
        let files: Vec<String> = BTreeSet::from_iter(files).into_iter().collect();
        assert_eq!(told, files, "{room}");
    }
}

/// The faults of a made-up file, without their places.
fn reasons(file: &str, text: &str) -> Vec<String> {
    let place = |fault: &str| fault.find(": ").expect("a place") + 2;
    faults(file, text).iter().map(|fault| fault[place(fault)..].to_owned()).collect()
}

#[track_caller]
fn catches(file: &str, text: &str, why: &str) {
    let reasons = reasons(file, text);
    assert!(matches!(&reasons[..], [one] if one.starts_with(why)), "{text}: {reasons:?}");
}

#[track_caller]
fn accepts(file: &str, text: &str) {
    assert_eq!(reasons(file, text), [""; 0], "{text}");
}

#[test]
fn catches_an_import_that_runs_upward() {
    catches(
        "exchange/mod.rs",
        "use crate::engine::Engine;",
        "imports `engine::Engine`, which runs upward",
    );
    catches("http1/head.rs", "use crate::{exchange};", "imports `exchange`, which runs upward");
    catches(
        "base/slab.rs",
        "use crate::{settings::Limits};",
        "imports `settings::Limits`, which runs upward",
    );
}

#[test]
fn catches_an_import_that_runs_sideways() {
    catches(
        "http1/body.rs",
        "use crate::token::AdminToken;",
        "imports `token::AdminToken`, which runs sideways",
    );
    catches(
        "exchange/mod.rs",
        "use crate::balance::Cursor;",
        "imports `balance::Cursor`, which runs sideways",
    );
}

#[test]
fn catches_an_import_past_the_seam_of_engine_and_exchange() {
    catches(
        "engine/conn.rs",
        "use crate::http1::body;",
        "imports `http1::body`, which runs sideways or past",
    );
    accepts("engine/mod.rs", "use crate::http1::head::HeadLimits;");
}

#[test]
fn catches_each_branch_of_a_grouped_import() {
    let text = "use crate::{balance::{self, Cursor}, engine::{Net, conn::{Conn}}};";
    assert_eq!(reasons("exchange/mod.rs", text).len(), 4);
}

#[test]
fn catches_a_path_in_the_middle_of_code() {
    catches(
        "exchange/mod.rs",
        "fn f() { g::<u8>(crate::engine::LINGER) }",
        "imports `engine::LINGER`",
    );
    catches("exchange/mod.rs", "fn f(x: Vec<crate::engine::Token>) {}", "imports `engine::Token`");
    catches(
        "exchange/mod.rs",
        "macro_rules! m { () => { $crate::engine::f() } }",
        "imports `engine::f`",
    );
}

#[test]
fn catches_a_path_that_climbs_out_of_its_room() {
    catches(
        "exchange/retry.rs",
        "use super::super::engine::Net;",
        "imports `engine::Net`, which runs upward",
    );
    catches(
        "exchange/mod.rs",
        "mod a { use super::super::engine::Net; }",
        "imports `engine::Net`, which runs upward",
    );
    catches("server.rs", "use super::*;", "imports every room at once");
    catches("server.rs", "use crate::{self as all};", "imports every room at once");
    accepts("exchange/retry.rs", "use super::engine::Net; use self::super::Step;");
    accepts("exchange/mod.rs", "mod engine {} use self::engine::Net;");
}

#[test]
fn catches_what_the_program_itself_imports() {
    catches("main.rs", "use evenly::worker::Crew;", "imports `worker::Crew`, which runs sideways");
    accepts("main.rs", "use evenly::server; fn main() { evenly::cli::run() }");
}

#[test]
fn catches_a_room_without_a_row() {
    catches("magic/mod.rs", "", "a new room");
    catches("cli.rs", "use crate::magic::Wand;", "imports `magic`, which is no room");
}

#[test]
fn catches_a_clock_a_socket_and_a_lock_in_a_pure_room() {
    catches(
        "exchange/mod.rs",
        "use std::time::Instant;",
        "names `Instant` in `exchange`: take the time",
    );
    catches("http1/mod.rs", "fn f(_: &std::net::TcpStream) {}", "names `TcpStream` in `http1`");
    catches("balance/mod.rs", "use std::sync::{Arc, Mutex};", "names `Mutex` in `balance`");
    catches(
        "engine/mod.rs",
        "fn f() { std::thread::yield_now() }",
        "names `std::thread` in `engine`",
    );
    catches("engine/mod.rs", "use std::{io, thread};", "names `std::thread` in `engine`");
    catches("base/wheel.rs", "use std::time::SystemTime;", "names `SystemTime` in `base`");
    catches("engine/net.rs", "fn f(_: &dyn Fn()) {}", "names `dyn` in `engine`");
    accepts("base/log.rs", "use std::time::SystemTime;");
    accepts("worker/mod.rs", "use std::time::Instant; use std::thread;");
    accepts(
        "engine/mod.rs",
        "use std::net::{IpAddr, SocketAddr}; use std::time::Duration; fn f(thread: u8) {}",
    );
}

#[test]
fn catches_a_glob_that_hides_a_lock() {
    catches("exchange/mod.rs", "use std::sync::*;", "names `std::sync::mpsc` in `exchange`");
}

#[test]
fn catches_mio_outside_worker() {
    catches("health/probe.rs", "use mio::Poll;", "names `mio` in `health`");
    accepts("worker/net.rs", "use mio::Poll;");
}

#[test]
fn catches_asynchronous_code_outside_the_lookups() {
    catches("health/monitor.rs", "use tokio::time::sleep;", "names `tokio` in `health`");
    catches("worker/mod.rs", "async fn f() {}", "names `async` in `worker`");
    accepts("health/dns.rs", "use hickory_resolver::Hosts; async fn f() { g().await }");
    catches("health/dns.rs", "use hickory_proto::op::Message;", "names `hickory_proto`");
}

#[test]
fn catches_unsafe_code_everywhere() {
    catches("worker/net.rs", "fn f() { unsafe { g() } }", "names `unsafe` in `worker`");
    accepts("lib.rs", "#![forbid(unsafe_code)] pub mod worker;");
}

#[test]
fn catches_a_file_that_is_too_long() {
    catches(
        "http1/tests/mod.rs",
        &"\n".repeat(MAX_LINES + 1),
        "1001 lines, more than 1000: split it",
    );
    accepts("http1/tests/mod.rs", &"\n".repeat(MAX_LINES));
}

#[test]
fn comments_strings_and_test_code_are_not_caught() {
    accepts(
        "exchange/mod.rs",
        "//! See [`crate::engine`].\n/* use std::time::Instant; */ /// `Mutex`\nfn f() {}",
    );
    accepts(
        "exchange/mod.rs",
        r##"const A: &str = "use crate::engine; unsafe"; const B: &str = r#"mio"#;"##,
    );
    accepts(
        "exchange/mod.rs",
        "#[cfg(test)] #[allow(x)] mod tests { use crate::engine; use std::thread; }",
    );
    accepts("exchange/mod.rs", "#[cfg(test)] use std::time::Instant; fn f() {}");
    catches(
        "exchange/mod.rs",
        "#[cfg(test)] mod tests; use std::time::Instant;",
        "names `Instant`",
    );
    accepts("exchange/tests.rs", "use crate::engine; use std::thread;");
}

#[test]
fn a_fault_says_where_it_is() {
    let found = faults("exchange/mod.rs", "\n\nuse crate::engine;\n");
    assert!(found[0].starts_with("src/exchange/mod.rs:3: imports"), "{found:?}");
}
