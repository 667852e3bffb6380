//! Two pinned threads and a clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::candidates::Line;
use crate::machine::{pin, preemptions};

/// The end that sends: false when there is no room.
pub trait Send: std::marker::Send {
    fn send(&mut self, line: Line) -> bool;
}

/// The end that receives: the first word of a message, all of which was copied out.
pub trait Receive: std::marker::Send {
    fn receive(&mut self) -> Option<u64>;
}

/// Tries until there is an answer; the one way of waiting that all candidates share.
#[inline]
pub fn wait_for<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        std::hint::spin_loop();
    }
}

/// What one run took.
pub struct Run {
    pub time: Duration,
    /// The system took a core away from one of the threads meanwhile, so the time is not the ring's alone.
    pub disturbed: bool,
}

/// Runs both on their cores and times them from their common start until both are done.
pub fn pair(
    cores: [usize; 2],
    first: impl FnOnce() + std::marker::Send,
    second: impl FnOnce() + std::marker::Send,
) -> Run {
    let ready = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let near = scope.spawn(|| on_core(cores[0], &ready, first));
        let far = scope.spawn(|| on_core(cores[1], &ready, second));
        match (near.join(), far.join()) {
            (Ok(near), Ok(far)) => Run {
                time: near.done.max(far.done).duration_since(near.begun.min(far.begun)),
                disturbed: near.disturbed || far.disturbed,
            },
            _ => panic!("a measuring thread failed"),
        }
    })
}

struct Half {
    begun: Instant,
    done: Instant,
    disturbed: bool,
}

fn on_core(core: usize, ready: &AtomicU64, work: impl FnOnce()) -> Half {
    pin(core);
    let before = preemptions();
    // Spinning and not a barrier that sleeps: waking takes as long as a short run.
    ready.fetch_add(1, Ordering::AcqRel);
    wait_for(|| (ready.load(Ordering::Acquire) == 2).then_some(()));
    let begun = Instant::now();
    work();
    let done = Instant::now();
    Half { begun, done, disturbed: preemptions() != before }
}

/// Round trips: one message there, one back, and so on.
pub fn ping_pong<S: Send, R: Receive>(cores: [usize; 2], count: u64, there: (S, R), back: (S, R)) -> Run {
    let ((mut ping, mut heard), (mut pong, mut answered)) = (there, back);
    pair(
        cores,
        move || {
            for number in 1..=count {
                wait_for(|| ping.send(Line([number; 8])).then_some(()));
                assert_eq!(wait_for(|| answered.receive()), number);
            }
        },
        move || {
            for number in 1..=count {
                assert_eq!(wait_for(|| heard.receive()), number);
                wait_for(|| pong.send(Line([number; 8])).then_some(()));
            }
        },
    )
}

/// Messages one way, as fast as they go.
pub fn stream<S: Send, R: Receive>(cores: [usize; 2], count: u64, ends: (S, R)) -> Run {
    let (mut sender, mut receiver) = ends;
    pair(
        cores,
        move || {
            for number in 1..=count {
                wait_for(|| sender.send(Line([number; 8])).then_some(()));
            }
        },
        move || {
            for number in 1..=count {
                assert_eq!(wait_for(|| receiver.receive()), number);
            }
        },
    )
}
