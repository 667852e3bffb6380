//! Every ordering of the labs' locks, as loom explores them:
//! `RUSTFLAGS="--cfg loom" cargo test -p guest-kernel --release --test loom`.
#![cfg(loom)]

use guest_kernel::labs::locks::{ALL, Lock, Make};
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

macro_rules! locks {
    ($($name:ident: $place:expr),*) => {
        $(#[test]
        fn $name() {
            let (_, make) = ALL[$place];
            excludes(make, 2, 2, 3);
            // A queue of three has somebody in the middle.
            excludes(make, 3, 1, 2);
        })*
    };
}

locks!(test_and_set: 0, test_and_test_and_set: 1, delay: 2, backoff: 3, ticket: 4, anderson: 5, mcs: 6);
