//! From the client to an API and back: who gets a request, when one of them dies, returns, and when none is left.

use evenly_demo::stage::Piece;

use crate::harness::wait_for;
use crate::play::{Story, api};

const ONE: Piece = Piece::Api(1);
const TWO: Piece = Piece::Api(2);

/// Every answer of evenly's own has these fields; the body of a 503 is its reason phrase.
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\n\
                           Content-Type: text/plain; charset=utf-8\r\n\
                           Content-Length: 19\r\n\
                           Proxy-Status: evenly; error=connection_refused\r\n\r\n";

#[test]
fn a_request_goes_from_the_client_by_dns_and_the_balancer_to_an_api_and_back() {
    let story = Story::start();
    let before = story.journal().now();
    let ended = story.client(&["-i", "/spells"]);
    assert_eq!((ended.code, &*ended.err), (0, ""));

    // The client has asked the resolver, which did not know and asked the authority.
    let resolver = story.said_of(Piece::Resolver, before, "spells.test");
    assert_eq!(resolver, ["miss spells.test. A: No Error, ttl 2"]);
    let authority = story.said_of(Piece::Authority, before, "spells.test");
    assert_eq!(authority.len(), 1, "{authority:?}");
    assert!(authority[0].starts_with("query udp 127.0.0.1:"), "{authority:?}");
    assert!(authority[0].ends_with(" spells.test. A: No Error, answers 1"), "{authority:?}");

    // The balancer has learnt from both where the APIs are.
    for name in [api(1), api(2)] {
        for server in [Piece::Resolver, Piece::Authority] {
            let said = story.said_of(server, story.journal().start(), &name);
            assert!(!said.is_empty(), "{server} was not asked for {name}");
        }
    }

    // One API has answered, the one that the response names.
    let (served_by, line) = (ended.served_by(), "GET /spells -> 200");
    let number = if served_by == api(1) { 1 } else { 2 };
    assert_eq!(served_by, api(number));
    story.wait_for_line(Piece::Api(number), before, line);
    assert!(story.journal().since(Piece::Api(3 - number), before).is_empty());

    // And what it said is what the client prints.
    let (head, body) = ended.out.split_once("\n\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\n"), "{head}");
    let spells: serde_json::Value = serde_json::from_str(body).unwrap();
    let names: Vec<_> = spells.as_array().unwrap().iter().map(|spell| &spell["name"]).collect();
    assert_eq!(names, ["Lumos", "Expelliarmus"]);
}

#[test]
fn requests_alternate_exactly_on_new_and_kept_connections() {
    let story = Story::start();
    let mut turns: Vec<String> =
        (0..10).map(|_| story.client(&["-i", "/spells"]).served_by()).collect();
    turns.extend((0..41).map(|_| story.connect().get("/spells").served()));
    turns.extend(story.turns(41));
    let mut kept = [story.connect(), story.connect(), story.connect()];
    turns.extend((0..10).flat_map(|_| kept.each_mut().map(|one| one.get("/spells").served())));
    assert_alternate(&turns);
}

/// One of the first two, the other, and so on: never one twice in a row.
#[track_caller]
fn assert_alternate(turns: &[String]) {
    for (at, pair) in turns.windows(2).enumerate() {
        let both =
            (pair[0] == api(1) && pair[1] == api(2)) || (pair[0] == api(2) && pair[1] == api(1));
        assert!(both, "{pair:?} at {at} of {turns:?}");
    }
}

#[test]
fn an_api_killed_under_load_costs_no_request_and_is_out_at_once() {
    // The next health check is a minute away: what takes it out is what requests meet.
    let mut story = Story::start();
    let served = story.under_load(|story, load| {
        load.goes_on(100);
        let before = story.journal().now();
        story.kill(ONE);
        story.wait_for_line(Piece::Evenly, before, "is down: ");
        assert_eq!(story.turns(20), vec![api(2); 20]);
        load.goes_on(100);
    });
    // Each of the four clients has asked for 25 more after that.
    assert!(served >= 300, "{served}");
    assert_eq!(story.turns(20), vec![api(2); 20]);
}

#[test]
fn an_api_that_is_started_again_gets_its_turn_with_its_next_health_check() {
    let mut story = Story::watched();
    let before = story.journal().now();
    story.kill(ONE);
    wait_for("it is out", || story.journal().find(Piece::Evenly, before, down));
    let before = story.journal().now();
    story.under_load(|story, _| {
        story.again(ONE);
        // By its first check: one alone brings it back, and they are `play::SOON` apart.
        story.wait_for_line(Piece::Evenly, before, "is up: 200");
    });
    assert_alternate(&story.turns(20));
}

fn down(line: &str) -> Option<()> {
    (line.contains("is down: ") && line.contains("healthy endpoints: 1")).then_some(())
}

#[test]
fn with_both_apis_down_the_answer_is_a_503_until_one_is_back() {
    let mut story = Story::watched();
    let before = story.journal().now();
    story.kill(ONE);
    story.kill(TWO);
    story.wait_for_line(Piece::Evenly, before, "healthy endpoints: 0");

    // On a connection that stays usable.
    let mut connection = story.connect();
    for _ in 0..3 {
        let response = connection.get("/spells");
        assert_eq!((&*response.head, &*response.body), (UNAVAILABLE, "Service Unavailable"));
    }
    let ended = story.client(&["-i", "/spells"]);
    let printed = UNAVAILABLE.replace("\r\n", "\n");
    let (status, fields) = printed.split_once('\n').unwrap();
    let printed = format!("{status}\n{}Service Unavailable\n", fields.to_lowercase());
    assert_eq!((ended.code, ended.out, &*ended.err), (22, printed, ""));
    let ended = story.client(&["/spells"]);
    let why = "ingress-client: 503 Service Unavailable\n";
    assert_eq!((ended.code, &*ended.out, &*ended.err), (22, "Service Unavailable\n", why));

    story.again(TWO);
    wait_for("it serves", || (connection.get("/spells").status() == 200).then_some(()));
    assert_eq!(story.turns(10), vec![api(2); 10]);
    story.again(ONE);
    wait_for("so does the other", || (connection.get("/spells").served() == api(1)).then_some(()));
    assert_alternate(&story.turns(10));
}
