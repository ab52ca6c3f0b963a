//! A Dockerfile as data, and what Docker or the finished image would find wrong with it.
//!
//! Owns the grammar of the few instructions that the demo uses; any other is an error, which is to be answered by adding it here.
//! (`dockerfile-parser` on crates.io lets unknown instructions pass, which is what is to be found, and brings a dozen crates.)

use std::collections::BTreeSet;
use std::path::Path;

use super::context::Context;

/// Releases of Debian, of which all bases must have the same.
const RELEASES: [&str; 3] = ["bookworm", "trixie", "forky"];

#[derive(Debug, PartialEq)]
enum Step {
    Run(String),
    Copy { from: Option<String>, sources: Vec<String>, to: String },
    User(String),
    Expose(Vec<u16>),
    Healthcheck(Vec<String>),
    Entrypoint(Vec<String>),
    Workdir,
}

struct Stage {
    name: String,
    base: String,
    steps: Vec<Step>,
}

/// All stages, in their order.
pub(super) struct Dockerfile {
    stages: Vec<Stage>,
}

/// What a stage leaves behind, with what it has from the stages it is built on.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// Names of the programs in /usr/local/bin.
    pub(super) programs: BTreeSet<String>,
    pub(super) user: String,
    pub(super) ports: Vec<u16>,
    pub(super) healthcheck: Vec<String>,
    pub(super) entrypoint: Vec<String>,
}

impl Dockerfile {
    pub(super) fn parse(text: &str) -> Result<Dockerfile, String> {
        let mut stages: Vec<Stage> = Vec::new();
        for line in instructions(text)? {
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
            let rest = rest.trim();
            match (word, stages.last_mut()) {
                ("FROM", _) => stages.push(stage(rest)?),
                (_, None) => return Err(format!("`{word}` before the first FROM")),
                (_, Some(stage)) => stage.steps.push(step(word, rest)?),
            }
        }
        Ok(Dockerfile { stages })
    }

    /// The image of a stage.
    pub(super) fn image(&self, target: &str) -> Option<Image> {
        let stage = self.stages.iter().find(|stage| stage.name == target)?;
        let mut image = self.image(&stage.base).unwrap_or_default();
        for step in &stage.steps {
            image.add(step);
        }
        Some(image)
    }

    /// What is wrong, sentence by sentence. `programs` are those that cargo builds.
    pub(super) fn problems(&self, context: &Context, programs: &BTreeSet<String>) -> Vec<String> {
        let mut found = self.wrong_bases();
        for (at, stage) in self.stages.iter().enumerate() {
            let earlier = self.stages.get(..at).unwrap_or_default();
            if earlier.iter().any(|other| other.name == stage.name) {
                found.push(format!("two stages are called `{}`", stage.name));
            }
            for step in &stage.steps {
                let wrong = match step {
                    Step::Run(line) => unknown_programs(line, programs),
                    Step::Copy { from: None, sources, .. } => not_sent(sources, context),
                    Step::Copy { from: Some(from), sources, .. } => {
                        not_made(from, sources, earlier)
                    }
                    _ => Vec::new(),
                };
                found.extend(wrong.into_iter().map(|wrong| format!("{}: {wrong}", stage.name)));
            }
        }
        found
    }

    fn wrong_bases(&self) -> Vec<String> {
        let (mut found, mut releases) = (Vec::new(), BTreeSet::new());
        for (at, Stage { name, base, .. }) in self.stages.iter().enumerate() {
            if self.stages.iter().take(at).any(|earlier| earlier.name == *base) {
                continue;
            }
            let tag = base.split_once(':').map_or("", |(_, tag)| tag);
            match tag.split('-').find(|part| RELEASES.contains(part)) {
                Some(release) => _ = releases.insert(release),
                None => found.push(format!(
                    "{name}: the base `{base}` is no stage above, and its tag names no release of Debian"
                )),
            }
        }
        if releases.len() > 1 {
            found.push(format!("bases of several releases of Debian: {releases:?}"));
        }
        found
    }
}

impl Image {
    fn add(&mut self, step: &Step) {
        match step {
            Step::Copy { sources, to, .. } if to == "/usr/local/bin/" => {
                self.programs.extend(sources.iter().filter_map(|source| file_name(source)));
            }
            Step::User(user) => self.user.clone_from(user),
            Step::Expose(ports) => self.ports.extend(ports),
            Step::Healthcheck(command) => self.healthcheck.clone_from(command),
            Step::Entrypoint(command) => self.entrypoint.clone_from(command),
            Step::Copy { .. } | Step::Run(_) | Step::Workdir => {}
        }
    }

    /// What keeps a container of it from starting, or lets it do more than it should.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.user.is_empty() || ["root", "0"].contains(&self.user.as_str()) {
            found.push("it runs as root".to_owned());
        }
        if self.entrypoint.is_empty() {
            found.push("it has no ENTRYPOINT".to_owned());
        }
        for program in self.entrypoint.first().into_iter().chain(self.healthcheck.first()) {
            if !self.programs.contains(program) {
                found.push(format!("`{program}` is not in /usr/local/bin"));
            }
        }
        found
    }
}

/// Lines without comments, with those that end in `\` joined to the next.
fn instructions(text: &str) -> Result<Vec<String>, String> {
    let (mut whole, mut part) = (Vec::new(), String::new());
    for line in text.lines().map(str::trim) {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(begun) => part += begun,
            None => whole.push(std::mem::take(&mut part) + line),
        }
    }
    if part.is_empty() { Ok(whole) } else { Err(format!("nothing follows `{part}\\`")) }
}

fn stage(rest: &str) -> Result<Stage, String> {
    match rest.split_whitespace().collect::<Vec<_>>()[..] {
        [base, "AS", name] => {
            Ok(Stage { name: name.to_owned(), base: base.to_owned(), steps: Vec::new() })
        }
        _ => Err(format!("`FROM {rest}` is not FROM image AS name")),
    }
}

fn step(word: &str, rest: &str) -> Result<Step, String> {
    match word {
        "RUN" => Ok(Step::Run(rest.to_owned())),
        "COPY" => copy(rest),
        "USER" => Ok(Step::User(rest.to_owned())),
        "WORKDIR" if rest.starts_with('/') => Ok(Step::Workdir),
        "EXPOSE" => rest.split_whitespace().map(port).collect::<Result<_, _>>().map(Step::Expose),
        "ENTRYPOINT" => exec(rest).map(Step::Entrypoint),
        "HEALTHCHECK" => healthcheck(rest),
        _ => Err(format!("`{word} {rest}` is not understood")),
    }
}

fn copy(rest: &str) -> Result<Step, String> {
    let wrong = || format!("`COPY {rest}` is not COPY [--from=stage] source... folder/");
    let (from, paths) = match rest.strip_prefix("--from=") {
        Some(rest) => {
            rest.split_once(' ').map(|(from, paths)| (Some(from), paths)).ok_or_else(wrong)?
        }
        None => (None, rest),
    };
    let mut sources: Vec<String> = paths.split_whitespace().map(ToOwned::to_owned).collect();
    let to = sources.pop().ok_or_else(wrong)?;
    let flag = sources.iter().any(|source| source.starts_with("--"));
    // More than one source needs a folder, which the last `/` says.
    if sources.is_empty() || flag || (sources.len() > 1 && !to.ends_with('/')) {
        return Err(wrong());
    }
    Ok(Step::Copy { from: from.map(ToOwned::to_owned), sources, to })
}

fn port(text: &str) -> Result<u16, String> {
    let number = text.trim_end_matches("/tcp").trim_end_matches("/udp");
    number.parse().map_err(|_| format!("`EXPOSE {text}` is no port"))
}

/// A command as a JSON array; in any other form a shell would stand between it and its signals.
fn exec(rest: &str) -> Result<Vec<String>, String> {
    match serde_json::from_str::<Vec<String>>(rest) {
        Ok(command) if !command.is_empty() => Ok(command),
        _ => Err(format!("`{rest}` is not in exec form, [\"program\", \"argument\"]")),
    }
}

fn healthcheck(rest: &str) -> Result<Step, String> {
    let (options, command) =
        rest.split_once("CMD ").ok_or_else(|| format!("`HEALTHCHECK {rest}` has no CMD"))?;
    for option in options.split_whitespace() {
        let known = ["--interval=", "--timeout=", "--start-period=", "--retries="];
        if !known.iter().any(|known| option.starts_with(known)) {
            return Err(format!("HEALTHCHECK has no option `{option}`"));
        }
    }
    exec(command).map(Step::Healthcheck)
}

fn file_name(path: &str) -> Option<String> {
    Some(Path::new(path).file_name()?.to_str()?.to_owned())
}

/// The programs that a RUN takes out of what cargo has built.
fn built(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().filter_map(|word| word.strip_prefix("target/release/"))
}

fn unknown_programs(line: &str, programs: &BTreeSet<String>) -> Vec<String> {
    let unknown = built(line).filter(|&program| !programs.contains(program));
    unknown.map(|program| format!("cargo builds no program `{program}`")).collect()
}

fn not_sent(sources: &[String], context: &Context) -> Vec<String> {
    let missing = sources.iter().filter(|source| !context.has(source));
    missing.map(|source| format!("`{source}` is not in the context, or ignored")).collect()
}

fn not_made(from: &str, sources: &[String], earlier: &[Stage]) -> Vec<String> {
    let Some(stage) = earlier.iter().find(|stage| stage.name == from) else {
        return vec![format!("no stage `{from}` above")];
    };
    let runs = stage.steps.iter().filter_map(|step| match step {
        Step::Run(line) if line.contains(" /programs ") => Some(line),
        _ => None,
    });
    let made: BTreeSet<String> =
        runs.flat_map(|line| built(line)).map(|program| format!("/programs/{program}")).collect();
    let missing = sources.iter().filter(|source| !made.contains(*source));
    missing.map(|source| format!("`{source}` is not made by the stage `{from}`")).collect()
}
