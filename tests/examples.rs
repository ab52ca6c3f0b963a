//! The programs of `examples/` do what their pages say: each is compiled in here, run, and its output compared.

// Their `main` prints what is compared here.
#[allow(dead_code)]
#[path = "../examples/engine_on_a_fake_network.rs"]
mod engine_on_a_fake_network;
#[allow(dead_code)]
#[path = "../examples/exchange_by_hand.rs"]
mod exchange_by_hand;

#[test]
fn an_exchange_by_hand_passes_on_a_get_fails_a_post_and_refuses_two_framings() {
    let said = exchange_by_hand::dialogue();
    let client: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix(" > client | ")).collect();
    let statuses: Vec<&&str> = client.iter().filter(|line| line.starts_with("HTTP/1.1")).collect();
    assert_eq!(
        statuses,
        [&"HTTP/1.1 200 OK", &"HTTP/1.1 502 Bad Gateway", &"HTTP/1.1 400 Bad Request"],
        "{said}"
    );
    let target = said.lines().filter_map(|line| line.strip_prefix(" > target | "));
    let requests: Vec<&str> = target.filter(|line| line.ends_with(" HTTP/1.1")).collect();
    assert_eq!(requests, ["GET /hello HTTP/1.1", "POST /pay HTTP/1.1"], "{said}");
}

#[test]
fn an_engine_on_a_fake_network_alternates_and_moves_on() {
    let expected = "
  10.0.0.1:80 got: GET /one HTTP/1.1
       client got: HTTP/1.1 200 OK
  10.0.0.2:80 got: GET /two HTTP/1.1
       client got: HTTP/1.1 200 OK
  10.0.0.2:80 got: GET /three HTTP/1.1
       client got: HTTP/1.1 200 OK
reported: 10.0.0.1:80 ConnectRefused
";
    assert_eq!(engine_on_a_fake_network::story(), expected.trim_start_matches('\n'));
}
