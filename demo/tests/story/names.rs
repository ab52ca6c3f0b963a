//! Names: what is asked of DNS and when; addresses that come and go without a reload; DNS that is gone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use evenly_demo::stage::Piece;

use crate::harness::wait_for;
use crate::play::{Connection, Story, api};

#[test]
fn the_client_is_answered_from_the_cache_inside_the_ttl_and_anew_after_it() {
    let mut story = Story::start();
    let (before, begun) = (story.journal().now(), Instant::now());
    let said = wait_for("a second question to the authority", || {
        assert_eq!(story.client(&["/spells"]).code, 0);
        let said = story.said_of(Piece::Resolver, before, "spells.test");
        (said.iter().filter(|line| line.starts_with("miss ")).count() == 2).then_some(said)
    });
    // From before the first question to after the second one: a busy machine only makes it longer.
    assert!(begun.elapsed() >= Duration::from_secs(2), "{said:?}");
    let asked = story.said_of(Piece::Authority, before, "spells.test").len();
    assert_eq!(asked, 2, "one for each miss and none for a hit: {said:?}");

    // With an hour no machine is too busy for the hits to be within it.
    story.edit_zone(|zone| zone.set_ttl(3600)).unwrap();
    let before = story.journal().now();
    wait_for("what was cached before is over", || {
        assert_eq!(story.client(&["/spells"]).code, 0);
        story.journal().find(Piece::Resolver, before, an_hour)
    });
    let before = story.journal().now();
    for _ in 0..5 {
        assert_eq!(story.client(&["/spells"]).code, 0);
    }
    let said = story.said_of(Piece::Resolver, before, "spells.test");
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said.iter().all(|line| line.starts_with("hit ")), "{said:?}");
    assert_eq!(story.said_of(Piece::Authority, before, "spells.test"), [""; 0]);
}

fn an_hour(line: &str) -> Option<()> {
    (line == "miss spells.test. A: No Error, ttl 3600").then_some(())
}

#[test]
fn the_balancer_asks_for_a_name_when_its_ttl_ends_and_not_before() {
    let story = Story::start();
    let start = story.journal().start();
    for name in [api(1), api(2)] {
        let said = wait_for("three questions", || {
            let said = story.said_of(Piece::Resolver, start, &name);
            (said.iter().filter(|line| line.starts_with("miss ")).count() >= 3).then_some(said)
        });
        // The resolver tells by its own clock whether its answer was over: had it been asked early, it would have said `hit`
        // with most of the two seconds left.
        assert!(
            !said.iter().any(|line| line.starts_with("hit ") && line.ends_with("ttl 2")),
            "{said:?}"
        );
    }
}

#[test]
fn added_and_removed_addresses_are_followed_without_a_reload() {
    let mut story = Story::start();
    let pid = story.pid(Piece::Evenly).unwrap();
    let third = story.add_api(3).unwrap();
    assert_eq!(story.turns(10).iter().collect::<BTreeSet<_>>().len(), 2);
    story.under_load(|story, load| {
        story.edit_zone(|zone| zone.add("http-api-1", third.ip())).unwrap();
        let mut connection = story.connect();
        wait_for("the third serves", || {
            (connection.get("/spells").served() == api(3)).then_some(())
        });
        load.goes_on(50);
    });
    let posts = [11, 12, 13].map(|id| Post::begin(&story, id));
    let first = story.address(Piece::Api(1)).unwrap();
    story.under_load(|story, load| {
        let before = story.journal().now();
        story.edit_zone(|zone| zone.set("http-api-1", &[first.ip()])).unwrap();
        let gone = format!("no longer has {third}");
        story.wait_for_line(Piece::Evenly, before, &gone);
        load.goes_on(50);
    });
    let turns = story.turns(30);
    assert!(!turns.contains(&api(3)), "{turns:?}");

    // What was under way when the address went is finished there.
    let finished = posts.map(Post::finish);
    assert!(finished.contains(&api(3)), "{finished:?}");

    assert_eq!(story.pid(Piece::Evenly), Some(pid));
}

/// A POST whose body an API waits for.
struct Post {
    connection: Connection,
    body: String,
}

impl Post {
    fn begin(story: &Story, id: u32) -> Post {
        let body = format!(r#"{{"id":{id},"name":"Reparo","description":"Mending Charm"}}"#);
        let mut connection = story.connect();
        connection.send(&format!(
            "POST /spells HTTP/1.1\r\nHost: spells.test\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            body.len()
        ));
        assert_eq!(connection.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        Post { connection, body }
    }

    /// Which API has taken it.
    fn finish(mut self) -> String {
        self.connection.send(&self.body);
        let response = self.connection.response();
        assert_eq!(response.status(), 201, "{response:?}");
        response.served_by()
    }
}

#[test]
fn the_last_good_answer_serves_while_dns_is_dead() {
    let mut story = Story::watched();
    let third = story.add_api(3).unwrap();
    story.under_load(|story, load| {
        let before = story.journal().now();
        story.stop(Piece::Authority).unwrap();
        story.stop(Piece::Resolver).unwrap();
        for name in [api(1), api(2)] {
            let lost = |line: &str| {
                (line.contains(&name) && line.contains("no longer resolves")).then_some(())
            };
            wait_for("it does not resolve", || story.journal().find(Piece::Evenly, before, lost));
        }
        load.goes_on(100);
    });
    let turns: BTreeSet<String> = story.turns(20).into_iter().collect();
    assert_eq!(turns, BTreeSet::from([api(1), api(2)]));

    let before = story.journal().now();
    story.edit_zone(|zone| zone.add("http-api-1", third.ip())).unwrap();
    story.under_load(|story, _| {
        story.again(Piece::Authority);
        story.again(Piece::Resolver);
        story.wait_for_line(Piece::Evenly, before, "resolves again");
        let mut connection = story.connect();
        wait_for("the change is followed", || {
            (connection.get("/spells").served() == api(3)).then_some(())
        });
    });
}
