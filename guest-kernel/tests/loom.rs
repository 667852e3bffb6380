//! Every ordering of the labs' queue lock, as loom explores them:
//! `RUSTFLAGS="--cfg loom" cargo test -p guest-kernel --release --test loom`.
#![cfg(loom)]

use guest_kernel::labs::locks::{Lock, Make, Mcs};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// Each core takes the lock so often, and counts by a load and a store that only the lock keeps together and in order.
fn excludes(make: Make, cores: usize, times: usize, switches: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    // Whoever waits takes branches all the while.
    builder.max_branches = 50_000;
    builder.check(move || {
        let shared = Arc::new((make(cores), AtomicUsize::new(0)));
        let work = move |core: usize, shared: &(Box<dyn Lock>, AtomicUsize)| {
            for _ in 0..times {
                let token = shared.0.acquire(core);
                let value = shared.1.load(Ordering::Relaxed);
                shared.1.store(value + 1, Ordering::Relaxed);
                shared.0.release(core, token);
            }
        };
        let others: Vec<_> = (1..cores)
            .map(|core| {
                let shared = shared.clone();
                thread::spawn(move || work(core, &shared))
            })
            .collect();
        work(0, &shared);
        for other in others {
            other.join().unwrap();
        }
        let token = shared.0.acquire(0);
        assert_eq!(shared.1.load(Ordering::Relaxed), cores * times);
        shared.0.release(0, token);
    });
}

/// The one whose correctness is least plain. The model of a lock whose waiters all look at one word has no end: loom follows
/// each look at it. Those are tested on threads (`labs::tests`).
#[test]
fn mcs() {
    let make: Make = |cores| Box::new(Mcs::new(cores));
    excludes(make, 2, 2, 3);
    // A queue of three has somebody in the middle.
    excludes(make, 3, 1, 2);
}
