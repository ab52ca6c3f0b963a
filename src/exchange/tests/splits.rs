//! The same bytes, however they are split.

use super::*;

/// A message with its body taken out of its chunks, whatever their sizes were.
fn plain(bytes: &[u8]) -> (String, String) {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, mut body) = text.split_once("\r\n\r\n").unwrap();
    if !head.contains("chunked") {
        return (head.to_owned(), body.to_owned());
    }
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (head.to_owned(), whole + "|" + rest);
        }
        whole += &rest[..size];
        body = rest[size..].strip_prefix("\r\n").unwrap();
    }
}

fn pieces<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for &cut in cuts {
        pieces.push(&text[from..cut]);
        from = cut;
    }
    pieces.push(&text[from..]);
    pieces
}

/// What both sides heard and how it ended, with the client's and the target's bytes in these pieces.
#[allow(clippy::type_complexity)]
fn dialogue(
    client: &[&str],
    target: &[&str],
) -> ((String, String), (String, String), Option<Ending>, Option<Reuse>) {
    let mut talk = Talk::new();
    for piece in client {
        talk.client_says(piece);
    }
    for piece in target {
        talk.target_says(piece);
    }
    (plain(&talk.to_target), plain(&talk.to_client), talk.ending, talk.reuse)
}

const DIALOGUES: [(&str, &str); 4] = [
    (
        "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nX-S: 2\r\n\r\n",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "\r\nGET http://b/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    (GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close, x-y\r\nX-Y: z\r\n\r\nhello"),
];

#[test]
fn a_dialogue_comes_to_the_same_however_it_is_split() {
    for (client, target) in DIALOGUES {
        let wanted = dialogue(&[client], &[target]);
        for cut in 1..client.len() {
            assert_eq!(dialogue(&pieces(client, &[cut]), &[target]), wanted, "{client:?} at {cut}");
        }
        for first in 1..target.len() {
            for second in first..target.len() {
                let split = pieces(target, &[first, second]);
                assert_eq!(dialogue(&[client], &split), wanted, "{split:?}");
            }
        }
        let every = |text: &str| (1..text.len()).collect::<Vec<usize>>();
        let (by_byte, answer) = (pieces(client, &every(client)), pieces(target, &every(target)));
        assert_eq!(dialogue(&by_byte, &answer), wanted, "byte by byte");
    }
}

proptest::proptest! {
    #[test]
    fn a_dialogue_in_many_pieces_comes_to_the_same(
        which in 0..DIALOGUES.len(),
        client_cuts in proptest::collection::btree_set(1usize..40, 0..40),
        target_cuts in proptest::collection::btree_set(1usize..60, 0..60),
    ) {
        let (client, target) = DIALOGUES[which];
        let within = |cuts: std::collections::BTreeSet<usize>, text: &str| -> Vec<usize> {
            cuts.into_iter().filter(|&cut| cut < text.len()).collect()
        };
        let client_pieces = pieces(client, &within(client_cuts, client));
        let target_pieces = pieces(target, &within(target_cuts, target));
        proptest::prop_assert_eq!(
            dialogue(&client_pieces, &target_pieces),
            dialogue(&[client], &[target])
        );
    }

    #[test]
    fn hostile_bytes_never_panic_and_never_reach_anybody_as_a_message(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
    ) {
        let mut talk = Talk::new();
        talk.client.extend_from_slice(&bytes);
        talk.use_client();
        let mut talk = Talk::of(GET);
        talk.out.clear();
        let mut input = bytes;
        let halves = Halves { client: &mut talk.near, target: &mut talk.far };
        let step = talk.flow.upstream_bytes(&talk.rules, halves, &mut input, &mut talk.out);
        proptest::prop_assert!(step.consumed <= input.len());
    }
}
