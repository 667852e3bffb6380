//! A small Datalog: facts, rules that follow from them, and questions, all as text.
//!
//! ```text
//! cache(0, 2, 0).                                                  a fact
//! shares(A, B, L) :- cache(A, L, G), cache(B, L, G), A != B.       a rule: capitals are variables
//! alone(A) :- core(A), not shares(A, _, 3).                        `not`: nothing of the kind is known
//! ```
//!
//! There are numbers and names, no functions, so what follows is finite. `not` may not go round in a circle: the rules are
//! sorted into [strata](rules), each of which is complete before one that denies it begins. Relations are kept sorted, and
//! an atom whose first arguments are known looks only at the facts that begin with them.

mod evaluate;
mod parse;
mod rules;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use rules::{Clause, Rule};

/// What facts are made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A name: a word that begins with a small letter.
    Name(String),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for Value {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl Value {
    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(out),
            Self::Name(name) => name.fmt(out),
        }
    }
}

/// What is wrong with a text, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake(pub String);

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Facts of one name.
type Relation = BTreeSet<Vec<Value>>;

/// Facts and rules.
#[derive(Clone, Debug, Default)]
pub struct Database {
    relations: BTreeMap<String, Relation>,
    rules: Vec<Rule>,
}

impl Database {
    /// Adds facts and rules.
    pub fn add(&mut self, text: &str) -> Result<(), Mistake> {
        let mut rules = self.rules.clone();
        let mut facts = Vec::new();
        for clause in parse::program(text)? {
            match clause {
                Clause::Fact(name, values) => facts.push((name, values)),
                Clause::Rule(rule) => rules.push(rule),
            }
        }
        // Only what can be evaluated is taken in.
        rules::strata(&rules)?;
        self.rules = rules;
        for (name, values) in facts {
            self.relations.entry(name).or_default().insert(values);
        }
        Ok(())
    }

    /// Adds a fact.
    pub fn fact<const N: usize>(&mut self, name: &str, values: [Value; N]) {
        if !self.relations.contains_key(name) {
            self.relations.insert(name.into(), Relation::new());
        }
        if let Some(relation) = self.relations.get_mut(name) {
            relation.insert(values.into());
        }
    }

    /// Has the rules say all that follows. Facts that come later are not followed up until the next call.
    pub fn conclude(&mut self) {
        // Sorted before, when they were added.
        let strata = rules::strata(&self.rules).unwrap_or_default();
        for stratum in strata {
            evaluate::complete(&mut self.relations, &stratum);
        }
    }

    /// The facts that a question such as `distance(0, B, D)` is about: for each, what its variables are, in the order in
    /// which they first occur; `_` is none.
    pub fn ask(&self, question: &str) -> Result<Answer, Mistake> {
        let literals = parse::question(question)?;
        rules::check_question(&literals)?;
        Ok(evaluate::answers(&self.relations, &literals))
    }

    /// All facts with this name.
    pub fn facts(&self, name: &str) -> impl Iterator<Item = &[Value]> {
        self.relations.get(name).into_iter().flatten().map(Vec::as_slice)
    }

    /// Whether there is this fact.
    pub fn holds<const N: usize>(&self, name: &str, values: [Value; N]) -> bool {
        self.relations.get(name).is_some_and(|relation| relation.contains(&values[..]))
    }
}

/// What a question found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The question's variables.
    pub variables: Vec<String>,
    /// Their values, in every way in which the question holds.
    pub rows: BTreeSet<Vec<Value>>,
}
