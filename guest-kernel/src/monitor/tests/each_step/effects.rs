//! Whether what was asked for has its effect: everywhere, or nowhere, as its outcome says.

use super::Scene;
use crate::agreement::{CoreId, CoreSet, Refusal};
use crate::monitor::News;
use crate::replica::capabilities::CapOp;
use crate::replica::names::NameOp;
use crate::replica::{Op, Reason, System};

/// Whether a replica is as one on which the operation was carried out.
fn has(system: &System, op: &Op) -> bool {
    let holders = |id| system.caps.get(id).map_or(CoreSet::EMPTY, |cap| cap.holders);
    match *op {
        Op::Name(NameOp::Register { ref name, place }) => system.names.look_up(name) == Some(place),
        Op::Name(NameOp::Unregister { ref name, .. }) => system.names.look_up(name).is_none(),
        Op::Cap(CapOp::Retype { into, kind, base, size, .. }) => {
            let made = system.caps.get(into);
            made.is_some_and(|cap| (cap.kind, cap.base, cap.size) == (kind, base, size))
        }
        Op::Cap(CapOp::Copy { cap, to, .. }) => holders(cap).contains(to),
        Op::Cap(CapOp::Delete { cap, by, .. }) => !holders(cap).contains(by),
        Op::Cap(CapOp::Revoke { cap, by, .. }) => {
            holders(cap) == CoreSet::one(by) && system.caps.iter().all(|(_, below)| below.parent != Some(cap))
        }
        Op::Cap(CapOp::Unmap { cap }) => system.caps.mapped().all(|(mapped, _)| mapped != cap),
    }
}

/// To whom the operation gives something, which goes with it.
fn given_to(op: &Op) -> Option<CoreId> {
    match *op {
        Op::Name(NameOp::Register { place, .. }) => Some(place.core),
        Op::Cap(CapOp::Retype { by, .. }) => Some(by),
        Op::Cap(CapOp::Copy { to, .. }) => Some(to),
        _ => None,
    }
}

impl Scene {
    /// Who was left out, and has come in anew.
    pub fn expelled(&self) -> CoreSet {
        let cores = (0..).zip(&self.cluster.cores);
        let expelled = |news: &[News]| news.contains(&News::Expelled);
        cores
            .filter(|(_, core)| core.as_ref().is_some_and(|core| expelled(&core.news)))
            .map(|(core, _)| core)
            .collect()
    }

    /// What was asked for has an outcome that its asker may get, and an effect that fits it, alike on all who stayed. That
    /// there is nothing else is checked where all replicas are compared.
    pub fn check_effects(&mut self) {
        let stayed = self.honest().without(self.expelled());
        for (core, ticket, op) in self.asked.clone() {
            let there: CoreSet = stayed.iter().filter(|&at| has(self.system(at), &op)).collect();
            let (everywhere, nowhere) = (there == stayed, there.is_empty());
            let gone = given_to(&op).is_some_and(|to| !stayed.contains(to));
            let outcome = self.lives(core).then(|| self.cluster.outcome(core, ticket));
            let fits = match outcome {
                Some(None) => panic!("core {core} waits for {op:?}"),
                // Its asker is dead, or knows that it does not know.
                None | Some(Some(Err(Refusal::Unknown))) => everywhere || nowhere,
                Some(Some(Ok(()))) => everywhere || (gone && nowhere),
                Some(Some(Err(_))) => nowhere,
            };
            assert!(fits, "{op:?} of core {core}: {outcome:?}, and done on {there:?} of {stayed:?}");
            if let Some(Some(Err(why))) = outcome {
                let taken = why == Reason::NameTaken.into() && self.asked.len() > 1;
                let nobody = why == Reason::NoSuchCore.into() && gone;
                let left_out = matches!(why, Refusal::NotAMember | Refusal::Unknown);
                let may = taken || nobody || (left_out && self.expelled().contains(core));
                assert!(may, "{op:?} of core {core} is refused: {why:?}");
            }
        }
    }
}
