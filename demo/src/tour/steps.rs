//! The eight steps and their words. Each checks what it has told.

use std::time::{Duration, Instant};

use super::meanwhile::Meanwhile;
use super::{CHECK_INTERVAL, Tour, check};
use crate::stage::{DOMAIN, Moment, PATIENCE, Piece, Problem, Storage};

const ONE: Piece = Piece::Api(1);
const TWO: Piece = Piece::Api(2);
const THREE: Piece = Piece::Api(3);
/// Requests of the step in which an API is killed, and how many of them are answered before that.
const KILLED_AMONG: usize = 40;
const BEFORE_KILL: usize = 5;
/// Least requests while an address goes.
const WHILE_IT_GOES: u32 = 30;
/// How often a turn is waited for; each time another API answers.
const TURNS: usize = 20;
/// After this long a TTL of two seconds has one left.
const A_SECOND: Duration = Duration::from_millis(1_100);

impl Tour {
    /// The whole story.
    pub(super) fn steps(&mut self) -> Result<(), Problem> {
        self.the_client_asks_for_an_address()?;
        self.requests_alternate()?;
        self.an_api_is_killed()?;
        self.it_is_back()?;
        self.nobody_is_left()?;
        self.each_has_its_own_spells()?;
        self.spells_are_shared()?;
        self.an_address_comes_and_goes()
    }

    fn the_client_asks_for_an_address(&mut self) -> Result<(), Problem> {
        self.teller.step("The client asks for an address");
        self.teller.words(
            "The client asks the resolver for `spells.test`. The resolver does not know it yet (a miss), asks the authority, \
             and keeps the answer for its TTL of 2 seconds. The request goes to the address, where evenly listens. (For \
             IPv6, AAAA, it is asked likewise: that is left out here.)",
        );
        let command = format!("{} {}/1", self.client, self.url);
        let (first, second) = self.miss_and_hit(&command)?;
        self.show_asked(&command, &first)?;
        let query = self.line(Piece::Authority, first.since, &[&question()])?;
        self.teller.log(Piece::Authority, &query);
        self.teller.words(
            "A second later the resolver still knows it (a hit), for the second that is left, and the authority hears \
             nothing of it.",
        );
        self.show_asked(&command, &second)
    }

    /// Asks, and asks again a second later. On a machine that is so busy that the answer's TTL is over by then the second
    /// is a miss as well, and the first of the next two.
    fn miss_and_hit(&mut self, command: &str) -> Result<(Asked, Asked), Problem> {
        let deadline = Instant::now() + PATIENCE;
        let mut first = self.ask(command)?;
        while Instant::now() < deadline {
            let told = "what was not asked for in the last 2 seconds is a miss";
            check(
                first.resolver.starts_with("miss "),
                told,
                std::slice::from_ref(&first.resolver),
            )?;
            let second_at = Instant::now() + A_SECOND;
            self.until("a second of the TTL to go by", |_| {
                Ok((Instant::now() >= second_at).then_some(()))
            })?;
            let second = self.ask(command)?;
            if second.resolver.starts_with("hit ") && second.resolver.ends_with(", ttl 1") {
                return Ok((first, second));
            }
            first = second;
        }
        Err(Problem(format!("the resolver does not keep an answer: {}", first.resolver)))
    }

    fn ask(&mut self, command: &str) -> Result<Asked, Problem> {
        let since = self.stage.journal().now();
        let output = self.run(command)?;
        let told = "the client gets a spell";
        check(output.concat().contains("Lumos"), told, &output)?;
        let resolver = self.line(Piece::Resolver, since, &[&question()])?;
        Ok(Asked { since, output, resolver })
    }

    fn show_asked(&mut self, command: &str, asked: &Asked) -> Result<(), Problem> {
        self.teller.command(command);
        self.teller.lines(asked.output.iter().map(String::as_str));
        self.teller.log(Piece::Resolver, &asked.resolver);
        Ok(())
    }

    fn requests_alternate(&mut self) -> Result<(), Problem> {
        self.teller.step("Requests alternate");
        self.teller.words(
            "Each request goes to the next healthy API, whoever sends it and over whichever connection: here each comes \
             over one of its own.",
        );
        self.show_turns(4, &[ONE, TWO])
    }

    fn an_api_is_killed(&mut self) -> Result<(), Problem> {
        self.teller.step("One API is killed, and nobody notices");
        self.teller.words(&format!(
            "{KILLED_AMONG} requests are sent, four at a time, and http-api-1 is killed among them, with no time to say \
             goodbye. What it had in hand goes to http-api-2 (a GET may be sent twice), and so does what it does not take \
             any longer: all {KILLED_AMONG} are answered. evenly does not wait for its next check: the first failure makes it \
             look, and take http-api-1 out.",
        ));
        let since = self.stage.journal().now();
        let command = format!(
            "seq {KILLED_AMONG} | xargs -P 4 -I{{}} {} -i \\\n    {} | grep -c '200 OK'",
            self.client, self.url
        );
        self.teller.command(&format!("{command} &"));
        let mut job = self.begin(&command)?;
        self.until("the first answers", |stage| {
            let lines = |piece| stage.journal().since(piece, since).len();
            Ok((lines(ONE) + lines(TWO) >= BEFORE_KILL).then_some(()))
        })?;
        self.kill("-KILL", &[ONE])?;
        let over = job.has_ended().map_err(|error| Problem(error.to_string()))?;
        check(!over, "it is killed while requests are sent", &[])?;
        let output = self.output(&command, job)?;
        self.teller.lines(output.iter().map(String::as_str));
        let told = format!("all {KILLED_AMONG} requests are answered");
        check(output == [KILLED_AMONG.to_string()], &told, &output)?;
        self.show_line(Piece::Evenly, since, &["http-api-1", "is down", "healthy endpoints: 1"])?;
        self.show_turns(2, &[TWO])
    }

    fn it_is_back(&mut self) -> Result<(), Problem> {
        self.teller.step("It comes back");
        self.teller.words(&format!(
            "Started again, http-api-1 has its turns from the next check on, which is at most {} seconds away.",
            CHECK_INTERVAL.as_secs()
        ));
        let since = self.stage.journal().now();
        self.start(ONE)?;
        self.show_line(Piece::Evenly, since, &["http-api-1", "is up", "healthy endpoints: 2"])?;
        self.show_turns(4, &[ONE, TWO])
    }

    fn nobody_is_left(&mut self) -> Result<(), Problem> {
        self.teller.step("Both are stopped");
        self.teller.words(
            "With nobody left to ask, evenly answers by itself, at once: 503. The client ends with 22, as curl does with -f.",
        );
        let since = self.stage.journal().now();
        self.kill("-TERM", &[ONE, TWO])?;
        let output =
            self.show(&format!("{} -i {}; echo \"exit code $?\"", self.client, self.url))?;
        let told = "the answer is 503, and the client ends with 22";
        let begins = output.first().is_some_and(|line| line == "HTTP/1.1 503 Service Unavailable");
        let ends = output.ends_with(&["Service Unavailable".to_owned(), "exit code 22".to_owned()]);
        check(begins && ends, told, &output)?;
        self.show_line(Piece::Evenly, since, &["no healthy endpoint"])
    }

    fn each_has_its_own_spells(&mut self) -> Result<(), Problem> {
        self.teller.step("Each API has its own spells");
        self.teller.words(
            "Both run again, with their spells in memory. A new spell is given to one of them, as it is its turn, and the \
             other has never heard of it: of two who ask, one is told 404.",
        );
        let since = self.stage.journal().now();
        self.start(ONE)?;
        self.start(TWO)?;
        self.line(Piece::Evenly, since, &["is up", "healthy endpoints: 2"])?;
        self.post()?;
        self.get_third(TWO, "HTTP/1.1 404 Not Found", "{\"error\":\"no spell 3\"}")?;
        self.get_third(ONE, "HTTP/1.1 200 OK", "Alohomora")
    }

    fn spells_are_shared(&mut self) -> Result<(), Problem> {
        self.teller.step("A database for both");
        self.teller.words(
            "Both are started once more, on one SQLite file. Whoever is given a spell, both have it: now it does not matter who \
             answers.",
        );
        let since = self.stage.journal().now();
        self.kill("-TERM", &[ONE, TWO])?;
        self.line(Piece::Evenly, since, &["no healthy endpoint"])?;
        self.stage.set_storage(Storage::Shared);
        let since = self.stage.journal().now();
        self.start(ONE)?;
        self.start(TWO)?;
        self.line(Piece::Evenly, since, &["is up", "healthy endpoints: 2"])?;
        self.post()?;
        self.get_third(TWO, "HTTP/1.1 200 OK", "Alohomora")?;
        self.get_third(ONE, "HTTP/1.1 200 OK", "Alohomora")
    }

    fn an_address_comes_and_goes(&mut self) -> Result<(), Problem> {
        self.teller.step("A third API, by the zone alone");
        self.teller.words(
            "A third API is started, and its address is added to the name http-api-2 in the zone file. evenly asks for its \
             targets' names whenever a TTL is over, so it finds the new address within 2 seconds, checks it, and gives it its \
             turns. Nobody has touched evenly or its configuration.",
        );
        let since = self.stage.journal().now();
        let third = self.stage.add_api(3)?.ip();
        self.show_command_of(THREE)?;
        let zone = self.stage.zone_file();
        let zone = zone.display();
        self.edit_zone(&format!("echo 'http-api-2. A {third}' >> {zone}"))?;
        self.show_line(
            Piece::Evenly,
            since,
            &[&third.to_string(), "is up", "healthy endpoints: 3"],
        )?;
        self.show_turns(6, &[ONE, TWO, THREE])?;
        self.teller.words(&format!(
            "The address is taken out again, while two clients ask without a pause. Once evenly has seen it, http-api-3 has no \
             more turns. It still runs: what it had in hand it has answered. More than {WHILE_IT_GOES} requests were sent \
             meanwhile, and none has failed.",
        ));
        self.an_address_goes(&format!("sed -i '/{third}/d' {zone}"), &third.to_string())
    }

    fn an_address_goes(&mut self, edit: &str, address: &str) -> Result<(), Problem> {
        let (program, url) = (self.stage.client(), self.url.clone());
        let arguments: Vec<_> = program.get_args().map(ToOwned::to_owned).collect();
        let program = program.get_program().to_owned();
        let meanwhile = Meanwhile::begin(move || {
            let mut client = std::process::Command::new(&program);
            client.args(&arguments).arg(&url);
            client
        });
        let since = self.stage.journal().now();
        self.edit_zone(edit)?;
        self.show_line(Piece::Evenly, since, &["no longer has", address, "healthy endpoints: 2"])?;
        self.until("enough requests", |_| {
            Ok((meanwhile.answered() > WHILE_IT_GOES || meanwhile.has_failed()).then_some(()))
        })?;
        meanwhile.end()?;
        self.show_turns(4, &[ONE, TWO])
    }

    /// Runs a command that changes the zone file, and waits until the authority serves the change.
    fn edit_zone(&mut self, command: &str) -> Result<(), Problem> {
        let since = self.stage.journal().now();
        let output = self.show(command)?;
        check(output.is_empty(), "the zone file is changed", &output)?;
        self.line(Piece::Authority, since, &["changed, serving it"]).map(|_| ())
    }

    /// Ends pieces by a signal, and waits until they are gone.
    fn kill(&mut self, signal: &str, pieces: &[Piece]) -> Result<(), Problem> {
        let pids: Vec<String> =
            pieces.iter().filter_map(|&piece| Some(self.stage.pid(piece)?.to_string())).collect();
        let names: Vec<String> = pieces.iter().map(Piece::to_string).collect();
        let output =
            self.show(&format!("kill {signal} {}  # {}", pids.join(" "), names.join(", ")))?;
        check(output.is_empty(), "the signal is sent", &output)?;
        self.until("the end of what is killed", |stage| {
            stage.died()?;
            Ok((!pieces.iter().any(|&piece| stage.is_running(piece))).then_some(()))
        })
    }

    fn start(&mut self, piece: Piece) -> Result<(), Problem> {
        self.stage.start_again(piece)?;
        self.show_command_of(piece)
    }

    fn show_command_of(&mut self, piece: Piece) -> Result<(), Problem> {
        let command = self.stage.command_line(piece)?;
        let command = command.replace(" --database sqlite:", " \\\n    --database sqlite:");
        self.teller.command(&format!("{command} &"));
        Ok(())
    }

    /// Adds a third spell, to the first API.
    fn post(&mut self) -> Result<(), Problem> {
        self.await_turn_after(TWO)?;
        let spell = r#"{"id":3,"name":"Alohomora","description":"Unlocking Charm"}"#;
        let command = format!("{} -i -d '{spell}' \\\n    {}", self.client, self.url);
        let output = self.show(&command)?;
        check(
            is(&output, ONE, "HTTP/1.1 201 Created", spell),
            "http-api-1 takes the spell",
            &output,
        )
    }

    /// Asks for the third spell; it is `by`'s turn.
    fn get_third(&mut self, by: Piece, status: &str, body: &str) -> Result<(), Problem> {
        let output = self.show(&format!("{} -i {}/3", self.client, self.url))?;
        check(is(&output, by, status, body), &format!("{by} answers `{status}`"), &output)
    }

    /// Shows so many requests, and checks that these answer in turn, beginning with the first.
    fn show_turns(&mut self, count: usize, turn: &[Piece]) -> Result<(), Problem> {
        if let Some(&last) = turn.last() {
            self.await_turn_after(last)?;
        }
        let numbers: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        let (client, url) = (&self.client, &self.url);
        let output = self.show(&format!(
            "for n in {}; do {client} -i \\\n    {url} | grep served-by; done",
            numbers.join(" ")
        ))?;
        let wanted = turn.iter().cycle().take(count).map(|&piece| served_by(piece));
        let names = turn.iter().map(Piece::to_string).collect::<Vec<_>>().join(", ");
        let told = format!("these answer in turn: {names}");
        check(output.iter().eq(&wanted.collect::<Vec<_>>()), &told, &output)
    }

    /// Sends requests that nobody sees until `piece` has answered one. Whose turn it is depends on how many were sent
    /// before, which is not the same in each tour.
    fn await_turn_after(&mut self, piece: Piece) -> Result<(), Problem> {
        let command = format!("{} -i {}/1", self.client, self.url);
        for _ in 0..TURNS {
            if self.run(&command)?.contains(&served_by(piece)) {
                return Ok(());
            }
        }
        Err(Problem(format!("{piece} has not answered one of {TURNS} requests")))
    }
}

/// A request of the first step, what the client printed, and what the resolver said.
struct Asked {
    since: Moment,
    output: Vec<String>,
    resolver: String,
}

fn question() -> String {
    format!(" {DOMAIN}. A:")
}

fn served_by(piece: Piece) -> String {
    format!("x-served-by: {piece}")
}

/// Whether a response has this status, is from `by`, and has this in its body.
fn is(response: &[String], by: Piece, status: &str, body: &str) -> bool {
    response.first().is_some_and(|line| line == status)
        && response.contains(&served_by(by))
        && response.last().is_some_and(|line| line.contains(body))
}
