//! What follows: rules are applied until nothing new comes of it.
//!
//! After the first round a rule is applied only to what is new: once for each of its conditions, with that condition taken
//! from the last round's facts alone (semi-naive evaluation).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound;

use super::rules::{Atom, Comparison, Literal, Rule, Term};
use super::{Answer, Relation, Value};

type Relations = BTreeMap<String, Relation>;
/// What variables are, the latest last.
type Bindings<'a> = Vec<(&'a str, Value)>;

/// Applies rules that deny nothing of each other's until they say nothing new.
pub(super) fn complete(relations: &mut Relations, rules: &[&Rule]) {
    let mut fresh = Relations::new();
    for rule in rules {
        apply(relations, rule, None, &mut fresh);
    }
    while !fresh.is_empty() {
        for (name, facts) in &fresh {
            let relation = relations.entry(name.clone()).or_default();
            relation.extend(facts.iter().cloned());
        }
        let mut next = Relations::new();
        for rule in rules {
            for (place, literal) in rule.body.iter().enumerate() {
                if let Literal::Is(atom) = literal
                    && let Some(facts) = fresh.get(&atom.name)
                {
                    apply(relations, rule, Some((place, facts)), &mut next);
                }
            }
        }
        fresh = next;
    }
}

/// Applies a rule; with `only`, where the condition at that place is one of these facts.
fn apply(relations: &Relations, rule: &Rule, only: Option<(usize, &Relation)>, fresh: &mut Relations) {
    let Rule { head, body } = rule;
    let known = relations.get(&head.name);
    solve(relations, body, 0, only, &mut Bindings::new(), &mut |bindings| {
        let values: Vec<Value> = head.terms.iter().filter_map(|term| value(term, bindings)).collect();
        if !known.is_some_and(|known| known.contains(&values)) {
            match fresh.get_mut(&head.name) {
                Some(facts) => drop(facts.insert(values)),
                None => drop(fresh.insert(head.name.clone(), Relation::from([values]))),
            }
        }
    });
}

/// Every way in which a question holds.
pub(super) fn answers(relations: &Relations, body: &[Literal]) -> Answer {
    let mut answer = Answer::default();
    for literal in body {
        let Literal::Is(atom) = literal else { continue };
        for term in &atom.terms {
            if let Term::Variable(name) = term
                && !answer.variables.contains(name)
            {
                answer.variables.push(name.clone());
            }
        }
    }
    let (variables, rows) = (&answer.variables, &mut answer.rows);
    solve(relations, body, 0, None, &mut Bindings::new(), &mut |bindings| {
        let row = variables.iter().filter_map(|name| find(name, bindings).cloned());
        rows.insert(row.collect());
    });
    answer
}

/// Calls `found` for each way in which the conditions from `at` on hold with what is bound already.
fn solve<'a>(
    relations: &Relations,
    body: &'a [Literal],
    at: usize,
    only: Option<(usize, &Relation)>,
    bindings: &mut Bindings<'a>,
    found: &mut impl FnMut(&Bindings<'a>),
) {
    let Some(literal) = body.get(at) else { return found(bindings) };
    match literal {
        Literal::Is(atom) => {
            let facts = match only {
                Some((place, facts)) if place == at => Some(facts),
                _ => relations.get(&atom.name),
            };
            let Some(facts) = facts else { return };
            each_match(facts, atom, bindings, &mut |bindings| {
                solve(relations, body, at + 1, only, bindings, found);
                true
            });
        }
        Literal::IsNot(atom) => {
            let mut denied = true;
            if let Some(facts) = relations.get(&atom.name) {
                each_match(facts, atom, bindings, &mut |_| {
                    denied = false;
                    false
                });
            }
            if denied {
                solve(relations, body, at + 1, only, bindings, found);
            }
        }
        Literal::Compare(left, comparison, right) => {
            let (Some(left), Some(right)) = (value(left, bindings), value(right, bindings)) else { return };
            let holds = match comparison {
                Comparison::Equal => left == right,
                Comparison::Unequal => left != right,
                Comparison::Less => left < right,
                Comparison::AtMost => left <= right,
            };
            if holds {
                solve(relations, body, at + 1, only, bindings, found);
            }
        }
    }
}

/// Calls `each` for every fact that the atom can be, with its variables bound; it says whether it wants more.
fn each_match<'a>(
    facts: &Relation,
    atom: &'a Atom,
    bindings: &mut Bindings<'a>,
    each: &mut impl FnMut(&mut Bindings<'a>) -> bool,
) {
    // Facts are sorted by their arguments: those that begin with what is known lie side by side.
    let prefix: Vec<Value> = atom.terms.iter().map_while(|term| value(term, bindings)).collect();
    let from = Bound::Included(prefix.as_slice());
    for fact in facts.range::<[Value], _>((from, Bound::Unbounded)) {
        if !fact.starts_with(&prefix) {
            return;
        }
        let before = bindings.len();
        let more = if unify(atom, fact, bindings) { each(bindings) } else { true };
        bindings.truncate(before);
        if !more {
            return;
        }
    }
}

/// Binds the atom's free variables to the fact's values; false where the two differ.
fn unify<'a>(atom: &'a Atom, fact: &[Value], bindings: &mut Bindings<'a>) -> bool {
    if atom.terms.len() != fact.len() {
        return false;
    }
    for (term, said) in atom.terms.iter().zip(fact) {
        match term {
            Term::Any => {}
            Term::Value(value) if value == said => {}
            Term::Value(_) => return false,
            Term::Variable(name) => match find(name, bindings) {
                Some(bound) if bound == said => {}
                Some(_) => return false,
                None => bindings.push((name, said.clone())),
            },
        }
    }
    true
}

fn find<'b>(name: &str, bindings: &'b Bindings<'_>) -> Option<&'b Value> {
    bindings.iter().find(|(bound, _)| *bound == name).map(|(_, value)| value)
}

fn value(term: &Term, bindings: &Bindings<'_>) -> Option<Value> {
    match term {
        Term::Value(value) => Some(value.clone()),
        Term::Variable(name) => find(name, bindings).cloned(),
        Term::Any => None,
    }
}
