//! Kernels of a hostile domain that follow one another (docs/decisions/0028): domain 0's part, in and out of turn, and what
//! each of its calls has to answer at each stage.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::control::hypercall as op;
use abi::control::succession::{Stage, Succession};
use abi::xen::errno::Errno;
use hypervisor::core::Core;

use crate::guest::Dice;
use crate::{ANSWER, MEMORY, audit, control, has_stopped, state};

/// What an old kernel's call returns that goes on after all.
pub const WHY: u64 = 0x2a;

/// What domain 0 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Create,
    Write,
    Start,
    /// Lets the old kernel go on.
    Fail,
    /// The same, where the successor has ended by itself.
    Bury,
    End,
    Audit,
    Destroy,
}

use Deed::{Audit, Bury, Create, Destroy, End, Fail, Start, Write};
use Stage::{Committed, None, Offered, Prepared, Trial};

const STAGES: usize = 5;

/// By deed and stage: how often it was refused, and done.
static TIMES: [[[AtomicU64; 2]; STAGES]; Destroy as usize + 1] =
    [const { [const { [const { AtomicU64::new(0) }; 2] }; STAGES] }; Destroy as usize + 1];
/// Old kernels that went on as what they were.
pub static WENT_ON: AtomicU64 = AtomicU64::new(0);
/// Calls that a successor on trial was refused.
pub static HELD: AtomicU64 = AtomicU64::new(0);
/// Domains of two cores that were refused.
static OF_TWO: AtomicU64 = AtomicU64::new(0);

/// What can be done, and where it is refused.
const DONE: &[(Deed, &[Stage])] = &[
    (Create, &[None]),
    (Write, &[Prepared, Offered]),
    (Start, &[Offered]),
    (Fail, &[Offered, Trial]),
    (Bury, &[Trial]),
    (End, &[Prepared, Committed]),
    (Audit, &[None, Prepared, Offered, Trial, Committed]),
    (Destroy, &[None, Prepared, Offered, Trial, Committed]),
];
const REFUSED: &[(Deed, &[Stage])] = &[
    (Create, &[Prepared, Offered, Trial, Committed]),
    (Write, &[None, Trial, Committed]),
    // Offered: the package is to lie where no memory is, or the domain's is used otherwise.
    (Start, &[None, Prepared, Offered, Trial, Committed]),
    // Trial: the successor runs.
    (Fail, &[None, Prepared, Trial, Committed]),
    (End, &[None, Offered, Trial]),
];

fn cases(of: &'static [(Deed, &'static [Stage])]) -> impl Iterator<Item = (Deed, Stage)> {
    of.iter().flat_map(|&(deed, stages)| stages.iter().map(move |&stage| (deed, stage)))
}

fn times(deed: Deed, stage: Stage, done: bool) -> &'static AtomicU64 {
    &TIMES[deed as usize][stage as usize][usize::from(done)]
}

/// What has not been yet: a deed, a stage, and whether it is to be done there or refused.
pub fn missing() -> Vec<(Deed, Stage, bool)> {
    let done = cases(DONE).map(|(deed, stage)| (deed, stage, true));
    let refused = cases(REFUSED).map(|(deed, stage)| (deed, stage, false));
    done.chain(refused).filter(|&(deed, stage, done)| times(deed, stage, done).load(Relaxed) == 0).collect()
}

/// Whether something else than a deed of domain 0's has not been yet.
pub fn is_missing() -> bool {
    [&WENT_ON, &HELD, &OF_TWO].iter().any(|times| times.load(Relaxed) == 0)
}

/// In words.
pub fn told() -> String {
    let [started, committed] =
        [(Start, Offered), (End, Committed)].map(|(d, s)| times(d, s, true).load(Relaxed));
    let (went_on, held) = (WENT_ON.load(Relaxed), HELD.load(Relaxed));
    format!(
        "{started} successors began, {committed} old memories ended, {went_on} old kernels went on, {held} calls were held"
    )
}

fn stage(core: &mut Core, id: u64) -> Stage {
    let word = u64::try_from(control(core, [op::SUCCESSION, id, 0, 0, 0])).expect("it is there");
    Succession::from_word(word).expect("a stage").stage
}

/// Whether a domain that has stopped has not ended: its kernel waits, or its successor's failure is not its end.
pub fn is_under_way(core: &mut Core, id: u64) -> bool {
    matches!(stage(core, id), Offered | Trial)
}

/// Whether this is what a deed at this stage answers. Of a successor on trial that runs nobody knows when it ends.
fn is_right(deed: Deed, stage: Stage, answer: i64, runs: bool) -> bool {
    let is = |error: Errno| answer == -(error as i64);
    match (deed, stage) {
        (Create, None) | (Fail | Bury, Offered) | (End, Prepared | Committed) | (Audit | Destroy, _) => {
            answer == 0
        }
        (Create, _) => is(Errno::EEXIST),
        (Write, Prepared | Offered) => answer == 0 || is(Errno::EFAULT),
        (Write, _) | (End, Offered | Trial) => is(Errno::EBUSY),
        (Start, Offered) => answer == 0 || is(Errno::EFAULT) || is(Errno::EBUSY),
        (Fail | Bury, Trial) if runs => answer == 0 || is(Errno::EINVAL),
        (Fail | Bury, Trial) => answer == 0,
        (Start | Fail | Bury, _) => is(Errno::EINVAL),
        (End, None) => is(Errno::ENOENT),
    }
}

/// Where a kernel may be by itself, a moment later.
fn next(stage: Stage) -> Stage {
    match stage {
        Prepared => Offered,
        Trial => Committed,
        other => other,
    }
}

/// What to do next: mostly what has not been yet at this stage, or what leads where something has not.
fn choose(stage: Stage, has_ended: bool, is_held: bool, dice: &mut Dice) -> Deed {
    let missing = missing();
    let here: Vec<_> = missing.iter().filter(|case| case.1 == stage).map(|case| case.0).collect();
    let deed = match dice.below(4) {
        0..3 if !here.is_empty() => dice.pick(&here),
        0..3 if !missing.is_empty() => match stage {
            None | Prepared => Create,
            Offered => Start,
            Trial => Audit,
            Committed => End,
        },
        _ => dice.pick(&[Create, Create, Write, Start, Start, Fail, Fail, End, End, Audit, Destroy]),
    };
    match deed {
        // It is known for certain at which stage it ends.
        Destroy if !is_held => Audit,
        Fail | Bury if stage == Trial => {
            if has_ended {
                Bury
            } else {
                Fail
            }
        }
        Bury => Fail,
        deed => deed,
    }
}

/// Something about who follows whom in this domain, which has one core. `true`: it is no more.
pub fn act(core: &mut Core, id: u64, dice: &mut Dice) -> bool {
    // Held, it is at one stage; else it may go on meanwhile.
    let is_held = dice.below(2) == 0;
    if is_held {
        assert_eq!(control(core, [op::DOMAIN_PAUSE, id, 0, 0, 0]), 0);
    }
    let (stage, state) = (stage(core, id), state(core, id));
    let deed = choose(stage, has_stopped(state), is_held, dice);
    let pages = dice.pick(&[64, 64, MEMORY / 4096 + 64]);
    let place = dice.below(pages) * 4096 + dice.pick(&[0, 0, 8, 4095]);
    let answer = match deed {
        Create => control(core, [op::SUCCESSOR_CREATE, id, 0, 0, 0]),
        Write => control(core, [op::DOMAIN_WRITE, id, place, ANSWER, 1 + dice.below(4096)]),
        Start => control(core, [op::SUCCESSOR_START, id, 0x1000, 0x2000, place]),
        Fail | Bury => control(core, [op::SUCCESSOR_FAILED, id, WHY, 0, 0]),
        End => control(core, [op::SUCCESSOR_END, id, 0, 0, 0]),
        Audit => {
            audit(core);
            0
        }
        Destroy => control(core, [op::DOMAIN_DESTROY, id, 0, 0, 0]),
    };
    let right = is_right(deed, stage, answer, !is_held);
    assert!(
        right || (!is_held && is_right(deed, next(stage), answer, true)),
        "{deed:?} at {stage:?}, held {is_held}, {state:?}: {answer}"
    );
    if right {
        times(deed, stage, answer >= 0).fetch_add(1, Relaxed);
    }
    if deed == Destroy {
        return true;
    }
    if answer == -(Errno::EBUSY as i64) && deed == Start && dice.below(2) == 0 {
        // Its memory has to stay as long as it lives. Nobody will follow it.
        assert_eq!(control(core, [op::DOMAIN_DESTROY, id, 0, 0, 0]), 0);
        return true;
    }
    if is_held {
        assert_eq!(control(core, [op::DOMAIN_UNPAUSE, id, 0, 0, 0]), 0);
    }
    false
}

/// The same of one that has two cores, which nobody follows.
pub fn refuse(core: &mut Core, id: u64) {
    let refused = |call: u64, why: Errno| ([call, id, 0x1000, 0x2000, 0x3000], -(why as i64));
    for (call, answer) in [
        refused(op::SUCCESSOR_CREATE, Errno::EINVAL),
        refused(op::SUCCESSOR_START, Errno::EINVAL),
        refused(op::SUCCESSOR_FAILED, Errno::EINVAL),
        refused(op::SUCCESSOR_END, Errno::ENOENT),
    ] {
        assert_eq!(control(core, call), answer);
    }
    OF_TWO.fetch_add(1, Relaxed);
}
