//! What is added through the balancer: seen by one API when each has its own spells, by both when they share a file.

use evenly_demo::stage::Storage;

use crate::play::{Ended, Story, api};

const THIRD: &str = r#"{"id":3,"name":"Alohomora","description":"Unlocking Charm"}"#;

/// Exit code of the client, status, and who answered.
#[track_caller]
fn said(ended: &Ended) -> (i32, &str, String) {
    let status = ended.out.split(' ').nth(1).unwrap();
    (ended.code, status, ended.served_by())
}

#[test]
fn in_memory_a_spell_is_known_to_the_api_that_was_given_it_alone() {
    let story = Story::start();
    let added = story.client(&["-i", "-d", THIRD, "/spells"]);
    let giver = added.served_by();
    let other = if giver == api(1) { api(2) } else { api(1) };
    assert_eq!(said(&added), (0, "201", giver.clone()));
    assert!(added.out.contains("\nlocation: /spells/3\n"), "{added:?}");

    // Two GETs after a POST, one for each of them: two answers.
    assert_eq!(said(&story.client(&["-i", "/spells/3"])), (22, "404", other.clone()));
    assert_eq!(said(&story.client(&["-i", "/spells/3"])), (0, "200", giver.clone()));
    let lists = [story.client(&["-i", "/spells"]), story.client(&["-i", "/spells"])];
    let knows = lists.each_ref().map(|list| (list.served_by(), list.out.contains("Alohomora")));
    assert_eq!(knows, [(other.clone(), false), (giver.clone(), true)]);

    // So the same POST is new to one, and known to the other.
    assert_eq!(said(&story.client(&["-i", "-d", THIRD, "/spells"])), (0, "201", other));
    assert_eq!(said(&story.client(&["-i", "-d", THIRD, "/spells"])), (22, "409", giver));
}

#[test]
fn in_a_shared_database_every_spell_is_known_to_both() {
    let story = Story::with(|plan| plan.storage = Storage::Shared);
    let statuses = |wanted: &str, arguments: &[&str]| {
        let both = [story.client(arguments), story.client(arguments)];
        assert_ne!(both[0].served_by(), both[1].served_by());
        for ended in both {
            assert_eq!(said(&ended).1, wanted, "{arguments:?}: {ended:?}");
        }
    };
    assert_eq!(said(&story.client(&["-i", "-d", THIRD, "/spells"])).1, "201");
    statuses("200", &["-i", "/spells/3"]);
    statuses("409", &["-i", "-d", THIRD, "/spells"]);
    statuses("400", &["-i", "-d", r#"{"id":4"#, "/spells"]);
    statuses("400", &["-i", "-d", r#"{"id":4,"name":"","description":""}"#, "/spells"]);
    statuses("404", &["-i", "/spells/4"]);
    let gone = story.client(&["-i", "-X", "DELETE", "/spells/3"]);
    assert_eq!((gone.code, said(&gone).1), (0, "204"));
    statuses("404", &["-i", "/spells/3"]);
    statuses("404", &["-i", "-X", "DELETE", "/spells/3"]);
}
