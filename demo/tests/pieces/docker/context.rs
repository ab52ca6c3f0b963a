//! What of a folder Docker is sent: all of it but what `.dockerignore` says. The last rule that matches a path, or a folder above
//! it, decides; a rule that begins with `!` keeps. Does not own what is done with the files.

use std::fs;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

struct Rule {
    pattern: String,
    matcher: GlobMatcher,
    keeps: bool,
}

/// A folder and its rules.
pub(super) struct Context {
    root: PathBuf,
    rules: Vec<Rule>,
}

impl Context {
    /// The folder `root` with the `.dockerignore` in it.
    pub(super) fn open(root: &Path) -> Result<Context, String> {
        let file = root.join(".dockerignore");
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("{}: {error}; without it target/ is sent", file.display()))?;
        let lines = text.lines().map(str::trim);
        let rules = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(rule)
            .collect::<Result<_, _>>()?;
        Ok(Context { root: root.to_owned(), rules })
    }

    /// Whether `path`, with `/` and without one at its ends, is sent if it is there.
    pub(super) fn sends(&self, path: &str) -> bool {
        let matches = |rule: &&Rule| {
            Path::new(path)
                .ancestors()
                .any(|part| !part.as_os_str().is_empty() && rule.matcher.is_match(part))
        };
        self.rules.iter().rev().find(matches).is_none_or(|rule| rule.keeps)
    }

    /// Whether a COPY finds something at `source`.
    pub(super) fn has(&self, source: &str) -> bool {
        let source = source.trim_start_matches("./").trim_matches('/');
        match source {
            "" | "." => true,
            _ => self.files_in(source).next().is_some(),
        }
    }

    /// All files that are sent.
    pub(super) fn files(&self) -> Vec<String> {
        self.files_in("").collect()
    }

    fn files_in(&self, path: &str) -> Box<dyn Iterator<Item = String> + '_> {
        let full = self.root.join(path);
        if !full.is_dir() {
            let sent = full.is_file() && self.sends(path);
            return Box::new(sent.then(|| path.to_owned()).into_iter());
        }
        if !path.is_empty() && !self.sends(path) && !self.keeps_below(path) {
            return Box::new(std::iter::empty());
        }
        let mut names: Vec<String> = fs::read_dir(full)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        Box::new(names.into_iter().flat_map(move |name| self.files_in(&format!("{below}{name}"))))
    }

    /// As Docker, which does not look into an ignored folder that no `!` names a part of.
    fn keeps_below(&self, path: &str) -> bool {
        self.rules.iter().any(|rule| rule.keeps && rule.pattern.starts_with(&format!("{path}/")))
    }
}

fn rule(line: &str) -> Result<Rule, String> {
    let (keeps, pattern) = match line.strip_prefix('!') {
        Some(pattern) => (true, pattern),
        None => (false, line),
    };
    let pattern = pattern.trim_matches('/').to_owned();
    let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
    let matcher = glob.map_err(|error| format!(".dockerignore: {error}"))?.compile_matcher();
    Ok(Rule { pattern, matcher, keeps })
}

#[test]
fn the_last_rule_that_matches_a_path_or_a_folder_above_it_decides() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["a/one", "a/two", "b/c/three", "b/four", "five.log"] {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    let files = |rules: &str| {
        fs::write(folder.path().join(".dockerignore"), rules).unwrap();
        let context = Context::open(folder.path()).unwrap();
        let mut files = context.files();
        files.retain(|file| file != ".dockerignore");
        files.join(" ")
    };
    assert_eq!(files(""), "a/one a/two b/c/three b/four five.log");
    assert_eq!(files("# all\n*\n!a\n!b/c\n"), "a/one a/two b/c/three");
    assert_eq!(files("a\n!a/two\n/b/\n"), "a/two five.log");
    assert_eq!(files("!a\n*/*\n*.log"), "");
    assert_eq!(files("**/three"), "a/one a/two b/four five.log");
    let context = Context::open(folder.path()).unwrap();
    assert!(context.has(".") && context.has("./a/") && context.has("b/four"));
    assert!(!context.has("b/c") && !context.has("six"));
}
