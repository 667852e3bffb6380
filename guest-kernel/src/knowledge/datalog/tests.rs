use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn concluded(text: &str) -> Database {
    let mut database = Database::default();
    database.add(text).unwrap();
    database.conclude();
    database
}

fn rows(database: &Database, question: &str) -> Vec<String> {
    let answer = database.ask(question).unwrap();
    let row = |row: &Vec<Value>| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    answer.rows.iter().map(row).collect()
}

#[test]
fn rules_follow_from_rules() {
    let family = concluded(
        "parent(ann, bob). parent(bob, cid). parent(cid, dan). % four generations
         elder(A, B) :- parent(A, B).
         elder(A, C) :- elder(A, B), parent(B, C).",
    );
    assert_eq!(rows(&family, "elder(ann, X)"), ["bob", "cid", "dan"]);
    assert_eq!(rows(&family, "elder(X, cid), parent(X, Y)."), ["ann bob", "bob cid"]);
    assert!(family.holds("elder", ["ann".into(), "dan".into()]));
    assert_eq!(rows(&family, "elder(dan, X)"), Vec::<String>::new());
}

#[test]
fn what_is_not_known_is_denied() {
    let cores = concluded(
        "alone(A) :- core(A), not paired(A, _).
         paired(A, B) :- cache(A, G), cache(B, G), A != B.
         core(0). core(1). core(2). cache(0, 5). cache(1, 5). cache(2, 6).",
    );
    assert_eq!(rows(&cores, "alone(A)"), ["2"]);
    assert_eq!(rows(&cores, "core(A), not alone(A), 1 <= A"), ["1"]);
    assert_eq!(rows(&cores, "core(A), A < 2, A = 0"), ["0"]);
}

#[test]
fn facts_that_come_later_count_at_the_next_conclusion() {
    let mut database = concluded("p(1). q(A) :- p(A).");
    database.fact("p", [2u64.into()]);
    assert_eq!(rows(&database, "q(A)"), ["1"]);
    database.conclude();
    assert_eq!(rows(&database, "q(A)"), ["1", "2"]);
}

#[test]
fn relations_of_one_name_may_have_several_lengths() {
    assert_eq!(rows(&concluded("p(1). p(1, 2). p(3, 2)."), "p(A, B)"), ["1 2", "3 2"]);
}

#[test]
fn mistakes_are_told() {
    let told = |text: &str| Database::default().add(text).unwrap_err().0;
    assert_eq!(told("p(A)."), "`p` says `A` of which its body does not tell");
    assert_eq!(told("p(A) :- q(A), not r(B)."), "`B` is denied before it is known what it is");
    assert_eq!(told("p(A) :- q(A), A < B, q(B)."), "`B` is compared before it is known what it is");
    assert_eq!(told("p(_) :- q(_)."), "`p` concludes `_`");
    assert_eq!(told("p(1)"), "the text ends where a `.` should be");
    assert_eq!(told("p(1) q(2)."), "`q` stands where a `.` should be");
    assert_eq!(told("P(1)."), "`P` is no name of a relation: those begin with a small letter");
    assert_eq!(told("p(1a)."), "`1a` is no number");
    assert_eq!(told("p(1) :- q(1) & r(1)."), "`&` means nothing here");
    assert_eq!(told("p(A) :- q(A), not p(A)."), "`p` is denied by what it is concluded from");
    let circle = "p(A) :- d(A), not q(A). q(A) :- r(A). r(A) :- d(A), p(A).";
    assert!(told(circle).ends_with("is denied by what it is concluded from"));
    assert!(Database::default().ask("p(A) q(A)").is_err());
    assert!(Database::default().ask("not p(A)").is_err());
}

#[test]
fn what_cannot_be_evaluated_changes_nothing() {
    let mut database = concluded("p(1).");
    assert!(database.add("p(2). q(A) :- p(A), not q(A).").is_err());
    database.conclude();
    assert_eq!(rows(&database, "p(A)"), ["1"]);
}

proptest! {
    /// Against a model: who reaches whom in a graph, and who does not.
    #[test]
    fn reachability(edges in proptest::collection::btree_set((0u64..7, 0u64..7), 0..20)) {
        let mut database = Database::default();
        database.add("node(A) :- edge(A, _). node(A) :- edge(_, A).
            path(A, B) :- edge(A, B). path(A, C) :- path(A, B), path(B, C).
            apart(A, B) :- node(A), node(B), not path(A, B).").unwrap();
        for &(a, b) in &edges {
            database.fact("edge", [a.into(), b.into()]);
        }
        database.conclude();
        let mut reach: BTreeSet<(u64, u64)> = edges.clone();
        for middle in 0..7 {
            for a in 0..7 {
                for b in 0..7 {
                    if reach.contains(&(a, middle)) && reach.contains(&(middle, b)) {
                        reach.insert((a, b));
                    }
                }
            }
        }
        let nodes: BTreeSet<u64> = edges.iter().flat_map(|&(a, b)| [a, b]).collect();
        for &a in &nodes {
            for &b in &nodes {
                let (path, apart) = (reach.contains(&(a, b)), database.holds("apart", [a.into(), b.into()]));
                prop_assert_eq!(database.holds("path", [a.into(), b.into()]), path);
                prop_assert_eq!(apart, !path);
            }
        }
    }

    /// No text makes it panic.
    #[test]
    fn any_text(text in "[a-zA-Z0-9_ ,.:()<>=!%-]{0,60}") {
        let mut database = Database::default();
        if database.add(&format!("p(1). {text}")).is_ok() {
            database.conclude();
        }
        let _ = database.ask(&text);
    }
}
