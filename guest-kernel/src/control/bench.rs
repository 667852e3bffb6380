//! Counts the VM exits of a phase that a guest announces on its console:
//!
//! ```text
//! bench: phase NAME-begin TSC
//! bench: phase NAME-end TSC
//! ```
//!
//! The figure has the phase's name, and the exits of each kind.
//!
//! The first line says when the phase proper begins, the second when it ended. Printing costs exits itself, and they must
//! not count. So the guest rests for a while after the first line and
//! before the second, and domain 0 looks at the counters every so often all along. The first look a while after the
//! beginning is where the count starts. It ends with the last look before the end was printed: a look counts only if
//! no guest has printed a byte by the time the consoles are read *after* it, because text is in the ring before its
//! event is sent, and so before its exit is counted.

use alloc::format;
use alloc::string::String;

use abi::control::hypercall::ExitKind;

/// Ticks between two looks. A guest rests for [`REST`] at least, which is several of them.
const INTERVAL: u64 = 200_000;
/// Ticks a guest rests after the line that begins a phase, and before the one that ends it.
pub const REST: u64 = 5 * INTERVAL;
/// The longest name of a phase.
const MAX_NAME: usize = 40;

/// The phase being measured, if there is one.
#[derive(Debug, Default)]
pub struct Bench {
    phase: Option<Phase>,
}

#[derive(Debug)]
struct Phase {
    name: String,
    next_look: u64,
    /// When the guest goes to work: a first look after that is too late.
    begins: u64,
    first: Option<Exits>,
    /// Exits, and when.
    last: Option<(Exits, u64)>,
}

/// Exits of each kind.
pub type Exits = [u64; ExitKind::COUNT];

impl Bench {
    /// A guest has printed a line. The answer, where it ends a phase, is what to say.
    pub fn line(&mut self, line: &str, now: u64) -> Option<String> {
        let (announced, at) = line.strip_prefix("bench: phase ")?.split_once(' ')?;
        let at = at.parse().ok()?;
        if let Some(name) = announced.strip_suffix("-begin") {
            let sound = name.len() <= MAX_NAME
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/".contains(&b));
            // One phase at a time: whoever begins another in its midst spoils only that.
            if sound && self.phase.is_none() {
                let next_look = now.saturating_add(INTERVAL);
                self.phase =
                    Some(Phase { name: name.into(), next_look, begins: at, first: None, last: None });
            }
            return None;
        }
        let name = announced.strip_suffix("-end")?;
        let phase = self.phase.take_if(|phase| phase.name == name)?;
        Some(match (phase.first, phase.last) {
            (Some(first), Some((last, when))) if when >= at => figure(name, &first, &last),
            _ => format!(
                "bench phase {name}: too short, printed into, or not seen in time, for its exits to be counted"
            ),
        })
    }

    /// When to look at the counters next.
    pub fn next_look(&self) -> Option<u64> {
        self.phase.as_ref().map(|phase| phase.next_look)
    }

    /// Whether guests are being measured. Domain 0 then looks at its rings by itself, and asks for no events.
    pub fn is_measuring(&self) -> bool {
        self.phase.is_some()
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: u64) -> bool {
        self.next_look().is_some_and(|next| next <= now)
    }

    /// The guests had had this many exits at some time from `before` to `now`, and had printed nothing when their consoles
    /// were read after that.
    pub fn looked(&mut self, exits: Exits, quiet: bool, before: u64, now: u64) {
        let Some(phase) = &mut self.phase else { return };
        phase.next_look = now.saturating_add(INTERVAL);
        if quiet {
            if phase.first.is_none() && now <= phase.begins {
                phase.first = Some(exits);
            }
            phase.last = Some((exits, before));
        }
    }
}

/// What a phase's exits were, all together and by kind.
fn figure(name: &str, first: &Exits, last: &Exits) -> String {
    let mut kinds = String::new();
    let mut sum = 0;
    for ((kind, first), last) in ExitKind::ALL.iter().zip(first).zip(last) {
        let count = last.saturating_sub(*first);
        if count > 0 {
            let comma = if kinds.is_empty() { "" } else { "," };
            kinds.push_str(&format!(r#"{comma}"{}":{count}"#, kind.label()));
            sum += count;
        }
    }
    format!(r#"bench: {{"name":"{name}","median":{sum},"unit":"exits","samples":1,"exits":{{{kinds}}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hypercalls(count: u64) -> Exits {
        let mut exits = [0; ExitKind::COUNT];
        exits[ExitKind::Hypercall as usize] = count;
        exits
    }

    #[test]
    fn the_exits_of_printing_do_not_count() {
        let mut bench = Bench::default();
        assert_eq!(bench.line(&format!("bench: phase compute-begin {}", 2 * INTERVAL), 0), None);
        assert!(!bench.is_due(INTERVAL - 1) && bench.is_due(INTERVAL) && bench.is_measuring());
        bench.looked(hypercalls(100), true, INTERVAL, INTERVAL);
        bench.looked(hypercalls(103), true, 3 * INTERVAL, 3 * INTERVAL);
        bench.looked(hypercalls(104), false, 4 * INTERVAL, 4 * INTERVAL);
        let end = format!("bench: phase compute-end {}", 3 * INTERVAL);
        let said = bench.line(&end, 5 * INTERVAL).unwrap();
        assert_eq!(
            said,
            r#"bench: {"name":"compute","median":3,"unit":"exits","samples":1,"exits":{"hypercall":3}}"#
        );
        assert_eq!(bench.next_look(), None);
    }

    #[test]
    fn what_was_not_measured_is_not_told() {
        let mut bench = Bench::default();
        bench.line("bench: phase a-begin 9", 0);
        assert!(bench.line("bench: phase b-end 20", 5).is_none());
        assert!(bench.line("bench: phase a-end 20", 5).unwrap().contains("too short"));
        assert!(bench.line("bench: phase a-end 20", 5).is_none());
    }

    #[test]
    fn a_look_too_late_or_too_early_counts_nothing() {
        for (first, last) in [(10, 20), (9, 19)] {
            let mut bench = Bench::default();
            bench.line("bench: phase a-begin 9", 0);
            bench.looked(hypercalls(1), true, first, first);
            bench.looked(hypercalls(2), true, last, last);
            assert!(bench.line("bench: phase a-end 20", 25).unwrap().contains("not seen in time"));
        }
    }

    #[test]
    fn strange_names_are_no_phases() {
        let mut bench = Bench::default();
        for line in [
            "bench: phase \"}-begin 1",
            "bench: phase -",
            "bench: phase x-begin",
            "bench: phases x-begin 1",
            "",
        ] {
            assert!(bench.line(line, 0).is_none());
            assert!(!bench.is_measuring(), "{line}");
        }
    }
}
