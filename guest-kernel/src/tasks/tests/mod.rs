//! Tasks on a clock that moves by hand.

use std::vec::Vec;

use io_rings::session::{Again, End, Named, Recv, Send, Session};
use proptest::prelude::*;

use super::ledger::Sums;
use super::pipe::{PipeEnd, pipe};
use super::talk::{put, receive, send, take};
use super::*;

mod cores;
mod pages;

/// Tasks, and the clock that they are timed by.
fn tasks() -> (Tasks, Rc<Cell<u64>>) {
    let clock = Rc::new(Cell::new(0));
    let time = clock.clone();
    (Tasks::new(move || time.get()), clock)
}

fn sums(tasks: &Tasks, task: TaskId) -> Sums {
    tasks.spawner().ledger().sums(Account::task(task))
}

#[test]
fn a_task_that_waits_is_not_polled_and_one_round_polls_each_once() {
    let (mut tasks, _) = tasks();
    let spawner = tasks.spawner().clone();
    let idle = spawner.spawn("idle", core::future::pending()).unwrap();
    let turns = spawner.clone();
    let busy = spawner
        .spawn("busy", async move {
            for _ in 0..9 {
                turns.yield_now().await;
            }
        })
        .unwrap();
    let mut rounds = 0;
    while tasks.run() {
        rounds += 1;
        assert_eq!(sums(&tasks, busy).polls, rounds, "one poll a round");
    }
    assert_eq!((rounds, sums(&tasks, idle).polls), (10, 1));
    assert!(tasks.is_idle());
}

#[test]
fn no_task_is_always_first() {
    let (mut tasks, _) = tasks();
    let order = Rc::new(RefCell::new(Vec::new()));
    for task in 0..3 {
        let (turns, order) = (tasks.spawner().clone(), order.clone());
        let work = async move {
            for _ in 0..TASKS {
                order.borrow_mut().push(task);
                turns.yield_now().await;
            }
        };
        tasks.spawner().spawn("turn", work).unwrap();
    }
    while tasks.run() {}
    let firsts: std::collections::BTreeSet<i32> = order.borrow().chunks(3).map(|round| round[0]).collect();
    assert_eq!(firsts, [0, 1, 2].into());
}

#[test]
fn there_is_room_for_so_many_and_for_another_when_one_is_over() {
    let (mut tasks, _) = tasks();
    let spawner = tasks.spawner().clone();
    let gate = Rc::new(Signal::new());
    let open = Rc::new(Cell::new(false));
    for task in 0..TASKS {
        let (gate, open) = (gate.clone(), open.clone());
        let work = core::future::poll_fn(move |context| {
            if task == 7 {
                gate.wait(context);
            }
            if task == 7 && open.get() { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!(spawner.spawn("one", work), Ok(task));
    }
    assert_eq!(spawner.spawn("more", async {}), Err(Crowded));
    tasks.run();
    open.set(true);
    gate.notify();
    assert!(tasks.run());
    assert_eq!(spawner.spawn("more", async {}), Ok(7));
    assert_eq!(sums(&tasks, 7), Sums::default(), "a new task, a new account");
}

#[test]
fn sleepers_wake_in_time_and_the_kernel_knows_the_first() {
    let (mut tasks, clock) = tasks();
    let woken = Rc::new(RefCell::new(Vec::new()));
    for tick in [300, 100, 200] {
        let (spawner, woken) = (tasks.spawner().clone(), woken.clone());
        let sleep = async move {
            spawner.sleep_until(tick).await;
            woken.borrow_mut().push(spawner.ledger().now());
        };
        tasks.spawner().spawn("sleeper", sleep).unwrap();
    }
    assert_eq!(tasks.deadline(), None);
    while tasks.run() {}
    for tick in [100, 200, 300] {
        assert_eq!(tasks.deadline(), Some(tick));
        clock.set(tick - 1);
        assert!(!tasks.run());
        clock.set(tick);
        assert!(tasks.run());
    }
    assert_eq!((tasks.deadline(), &woken.borrow()[..]), (None, &[100, 200, 300][..]));
}

/// Says how long it will take, and hears how much was done.
struct Order;

impl Named for Order {
    type Round = Send<u64, Recv<u64, Again<Order>>>;
}

#[test]
fn a_server_s_time_is_its_client_s() {
    let (mut tasks, clock) = tasks();
    let spawner = tasks.spawner().clone();
    let (near, far) = pipe(spawner.ledger(), 1);
    let client = Session::<Again<Order>, PipeEnd<u64, u64>>::new(near);
    let mut server = client.dual(far);
    let time = clock.clone();
    let client = spawner
        .spawn("client", async move {
            let mut client = client;
            for _ in 0..10 {
                time.set(time.get() + 1);
                let asked = send(client.again(), 100).await.unwrap();
                client = receive(asked).await.unwrap().1;
            }
        })
        .unwrap();
    let (time, turns) = (clock.clone(), spawner.clone());
    let server = spawner
        .spawn("server", async move {
            loop {
                let Ok((ticks, heard)) = receive(server.again()).await else { return };
                // Over a wait as well.
                time.set(time.get() + ticks / 2);
                turns.yield_now().await;
                time.set(time.get() + ticks / 2);
                server = send(heard, ticks).await.unwrap();
                time.set(time.get() + 7);
            }
        })
        .unwrap();
    while tasks.run() {}
    let (client, server) = (sums(&tasks, client), sums(&tasks, server));
    assert_eq!((client.worked, client.paid), (10, 1010));
    assert_eq!((server.worked, server.paid), (1070, 70));
    assert_eq!((client.sent, client.received, server.sent, server.received), (10, 10, 10, 10));
}

#[test]
fn a_buffer_moves_through_a_pipe_and_is_not_copied() {
    type Lend = Send<Vec<u8>, Recv<Vec<u8>, End>>;
    let (mut tasks, _) = tasks();
    let spawner = tasks.spawner().clone();
    let (near, far) = pipe(spawner.ledger(), 1);
    let client = Session::<Lend, _>::new(near);
    let server = client.dual(far);
    let place = Rc::new(Cell::new(None));
    let seen = place.clone();
    let lender = async move {
        let buffer = std::vec![7_u8; 4096];
        let before = buffer.as_ptr();
        let (buffer, client) = receive(send(client, buffer).await.unwrap()).await.unwrap();
        client.close();
        seen.set(Some(before == buffer.as_ptr()));
    };
    spawner.spawn("lender", lender).unwrap();
    let borrower = async move {
        let (buffer, server) = receive(server).await.unwrap();
        drop(send(server, buffer).await.unwrap().close());
    };
    spawner.spawn("borrower", borrower).unwrap();
    while tasks.run() {}
    assert_eq!(place.get(), Some(true));
}

#[test]
fn who_waits_for_a_side_that_goes_is_told() {
    let (mut tasks, _) = tasks();
    let spawner = tasks.spawner().clone();
    let (mut near, far): (PipeEnd<u64, u64>, PipeEnd<u64, u64>) = pipe(spawner.ledger(), 2);
    let told = Rc::new(Cell::new(0));
    let seen = told.clone();
    let waits = async move {
        let mut far = far;
        while take(&mut far).await.is_ok() {
            seen.set(seen.get() + 1);
        }
        seen.set(seen.get() + 100);
    };
    spawner.spawn("waits", waits).unwrap();
    tasks.run();
    let goes = async move {
        put(&mut near, 1).await.unwrap();
        put(&mut near, 2).await.unwrap();
    };
    spawner.spawn("goes", goes).unwrap();
    while tasks.run() {}
    assert_eq!(told.get(), 102, "what was sent before is read");
}

proptest! {
    /// Whatever tasks do, and whoever pays: every tick is somebody's work, once, and somebody pays it, once.
    #[test]
    fn all_that_is_worked_is_paid(
        acts in prop::collection::vec((0..4_usize, 0..5_u8, 0..50_u64), 1..200),
    ) {
        let (mut tasks, clock) = tasks();
        let spawner = tasks.spawner().clone();
        let total = Rc::new(Cell::new(0));
        for task in 0..4 {
            let own: Vec<_> = acts.iter().filter(|act| act.0 == task).copied().collect();
            let (own_spawner, clock, total) = (spawner.clone(), clock.clone(), total.clone());
            let work = async move {
                let spend = |ticks| {
                    clock.set(clock.get() + ticks);
                    total.set(total.get() + ticks);
                };
                let ledger = own_spawner.ledger();
                for (_, act, ticks) in own {
                    spend(ticks);
                    match act {
                        0 => own_spawner.yield_now().await,
                        1 => ledger.serve(Account::core((ticks % 64) as u8)),
                        2 => ledger.serve(Account::task(ticks as usize % 4)),
                        3 => ledger.serve_self(),
                        _ => ledger.lend(Account::task(ticks as usize % 4), || spend(ticks)),
                    }
                }
            };
            spawner.spawn("any", work).unwrap();
        }
        while tasks.run() {
            // Between rounds nobody works.
            clock.set(clock.get() + 1000);
        }
        let (mut worked, mut paid) = (0, 0);
        spawner.ledger().each(|_, _, sums| {
            worked += sums.worked;
            paid += sums.paid;
        });
        prop_assert_eq!((worked, paid), (total.get(), total.get()));
    }
}
