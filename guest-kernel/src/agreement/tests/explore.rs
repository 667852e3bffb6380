//! A depth-first search of all that can happen, each state looked at once.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::world::{Choice, World};
use crate::agreement::Replica;

/// What a search saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub states: usize,
    pub ends: usize,
    pub deepest: usize,
}

fn digest(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Looks at every state that `start` can lead to. Panics with the way to one that breaks a rule.
pub fn explore<R>(
    start: World<R>,
    every: impl Fn(&World<R>) -> Result<(), String>,
    end: impl Fn(&World<R>) -> Result<(), String>,
) -> Seen
where
    R: Replica + Clone + core::fmt::Debug + Eq + Hash,
{
    let mut seen = Seen::default();
    let mut known = HashSet::from([digest(&start)]);
    let mut stack: Vec<(World<R>, Vec<Choice>)> = vec![(start.clone(), start.choices())];
    let mut way: Vec<Choice> = Vec::new();
    seen.states = 1;
    while let Some((world, choices)) = stack.last_mut() {
        let Some(choice) = choices.pop() else {
            stack.pop();
            way.pop();
            continue;
        };
        let mut next = world.clone();
        next.take(choice);
        // How many messages led here tells no two states apart.
        next.sent = 0;
        if !known.insert(digest(&next)) {
            continue;
        }
        way.push(choice);
        seen.states += 1;
        seen.deepest = seen.deepest.max(way.len());
        if let Err(why) = every(&next) {
            panic!("{why}\nafter {way:?}");
        }
        let choices = next.choices();
        if choices.is_empty() {
            seen.ends += 1;
            if let Err(why) = end(&next) {
                panic!("{why}\nafter {way:?}");
            }
        }
        stack.push((next, choices));
    }
    seen
}
