//! What a text consists of, what makes it sound, and in which order rules are complete.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{Mistake, Value};

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    Value(Value),
    Variable(String),
    /// `_`: whatever it is.
    Any,
}

/// A relation's name with arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Atom {
    pub(super) name: String,
    pub(super) terms: Vec<Term>,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
}

/// One condition of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    Is(Atom),
    IsNot(Atom),
    Compare(Term, Comparison, Term),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) head: Atom,
    pub(super) body: Vec<Literal>,
}

pub(super) enum Clause {
    Fact(String, Vec<Value>),
    Rule(Rule),
}

impl Rule {
    /// A rule is sound if whatever its head, its denials and its comparisons speak of is known by then.
    pub(super) fn checked(head: Atom, body: Vec<Literal>) -> Result<Clause, Mistake> {
        let known = check_body(&body)?;
        for term in &head.terms {
            match term {
                Term::Variable(name) if !known.contains(name) => {
                    return Err(Mistake(format!(
                        "`{}` says `{name}` of which its body does not tell",
                        head.name
                    )));
                }
                Term::Any => return Err(Mistake(format!("`{}` concludes `_`", head.name))),
                _ => {}
            }
        }
        if body.is_empty() {
            let values = head.terms.into_iter().filter_map(|term| match term {
                Term::Value(value) => Some(value),
                Term::Variable(_) | Term::Any => None,
            });
            return Ok(Clause::Fact(head.name, values.collect()));
        }
        Ok(Clause::Rule(Self { head, body }))
    }
}

/// A question is sound as a body is.
pub(super) fn check_question(body: &[Literal]) -> Result<(), Mistake> {
    check_body(body).map(drop)
}

/// The variables that a body binds.
fn check_body(body: &[Literal]) -> Result<BTreeSet<String>, Mistake> {
    let mut known = BTreeSet::new();
    for literal in body {
        let (terms, what): (Vec<&Term>, _) = match literal {
            Literal::Is(atom) => {
                known.extend(atom.terms.iter().filter_map(|term| match term {
                    Term::Variable(name) => Some(name.clone()),
                    Term::Value(_) | Term::Any => None,
                }));
                continue;
            }
            Literal::IsNot(atom) => (atom.terms.iter().collect(), "denied"),
            Literal::Compare(left, _, right) => (vec![left, right], "compared"),
        };
        for term in terms {
            match term {
                Term::Variable(name) if !known.contains(name) => {
                    return Err(Mistake(format!("`{name}` is {what} before it is known what it is")));
                }
                Term::Any if what == "compared" => return Err(Mistake("`_` is compared".into())),
                _ => {}
            }
        }
    }
    Ok(known)
}

/// The rules, sorted so that whatever a rule denies is complete in an earlier stratum.
pub(super) fn strata(rules: &[Rule]) -> Result<Vec<Vec<&Rule>>, Mistake> {
    let mut stratum: BTreeMap<&str, usize> = rules.iter().map(|rule| (rule.head.name.as_str(), 0)).collect();
    let relations = stratum.len();
    loop {
        let mut moved = false;
        for rule in rules {
            let needed = rule.body.iter().filter_map(|literal| match literal {
                Literal::Is(atom) => stratum.get(atom.name.as_str()).copied(),
                Literal::IsNot(atom) => stratum.get(atom.name.as_str()).map(|stratum| stratum + 1),
                Literal::Compare(..) => None,
            });
            let needed = needed.max().unwrap_or(0);
            if needed > relations {
                return Err(Mistake(format!("`{}` is denied by what it is concluded from", rule.head.name)));
            }
            if let Some(own) = stratum.get_mut(rule.head.name.as_str())
                && needed > *own
            {
                *own = needed;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let last = stratum.values().max().map_or(0, |last| last + 1);
    let of = |level: usize| {
        rules.iter().filter(|rule| stratum.get(rule.head.name.as_str()) == Some(&level)).collect()
    };
    Ok((0..last).map(of).collect())
}
