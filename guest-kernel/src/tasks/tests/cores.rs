//! Tasks of different cores, on threads of the host that race for real.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::agreement::{CoreSet, Topology};
use crate::kernel::{Kernel, Pace, Program, Round, Step};
use crate::mesh::fixture::gather;
use crate::mesh::{Mesh, WORDS};
use crate::monitor::Monitor;
use crate::platform::Platform;
use crate::platform::threads::Thread;
use crate::replica::tests::register;
use crate::replica::{Op, System};
use crate::tasks::desk::{Desk, NotOpen};
use crate::tasks::pages::Page;
use crate::tasks::rpc::{self, Client};
use crate::tasks::wire::Wire;

const CORES: usize = 3;
const SERVICE: u64 = 40;
const ROUNDS: u64 = 2000;

struct Core {
    tasks: Tasks,
    desk: Rc<Desk>,
    done: Rc<Cell<bool>>,
}

impl<P: Platform> Program<P> for Core {
    fn step(&mut self, kernel: &mut Kernel<P>) -> Step {
        self.tasks.run();
        self.desk.flush(|slot, line| kernel.send(slot, line));
        if self.tasks.is_idle() { Step::Idle } else { Step::Busy }
    }

    fn message(&mut self, _: &mut Kernel<P>, slot: usize, message: &io_rings::urpc::Message) {
        self.desk.line(slot, message);
    }
}

/// Runs a core until its task is done and all others' are, too. Core 1 has founded the first epoch.
fn core_of(
    mesh: Mesh<'static>,
    done: &AtomicUsize,
    work: impl AsyncFnOnce(Rc<Desk>, Spawner) + 'static,
) -> Core {
    let (slot, slots) = (mesh.own_slot() as u8, mesh.slots());
    let make = if slot == 1 { Monitor::founder } else { Monitor::outside };
    let mut monitor = make(slot, u32::from(slot), slots, System::new(slot), Topology::flat());
    for peer in (1..=CORES).filter(|&peer| peer != usize::from(slot)) {
        // The fixture has introduced them already.
        monitor.peer(peer, true);
    }
    let mut kernel = Kernel::new(Thread::begin(), Some(mesh), Pace::Poll);
    kernel.reporting = false;
    let tasks = Tasks::new(kernel.platform.clock());
    let spawner = tasks.spawner().clone();
    let desk = Desk::open_with(monitor, &spawner).unwrap();
    desk.reach(kernel.mesh.as_ref().unwrap());
    let over = Rc::new(Cell::new(false));
    let (own, at_desk, turns) = (over.clone(), desk.clone(), spawner.clone());
    let task = async move {
        while at_desk.look(Monitor::epoch).is_none_or(|(_, members)| members.len() < CORES as u32) {
            turns.yield_now().await;
        }
        work(at_desk, turns).await;
        own.set(true);
    };
    spawner.spawn("test", task).unwrap();
    let mut core = Core { tasks, desk, done: over };
    let mut told = false;
    while done.load(Ordering::Acquire) < CORES {
        if core.done.get() && !core::mem::replace(&mut told, true) {
            done.fetch_add(1, Ordering::AcqRel);
        }
        if kernel.round(&mut core) != Round::Busy {
            thread::yield_now();
        }
    }
    core
}

/// Each core's task, on a thread each; what each gives back.
fn on_cores<T: core::marker::Send + 'static>(
    work: impl AsyncFn(Rc<Desk>, Spawner) + Copy + core::marker::Send + 'static,
    look: impl Fn(&Core) -> T + Copy + core::marker::Send,
) -> Vec<T> {
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        let done = &done;
        let meshes: Vec<_> = gather(CORES).into_iter().map(|(_, mesh)| mesh).collect();
        let begin = |mesh| {
            scope.spawn(move || {
                look(&core_of(mesh, done, async move |desk, spawner| work(desk, spawner).await))
            })
        };
        let threads: Vec<_> = meshes.into_iter().map(begin).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Waits until the name is there, and opens a channel to it.
async fn opened(desk: &Rc<Desk>, name: &str) -> Wire {
    let watch = desk.watch(name);
    let notice = watch.next().await;
    assert_eq!((&notice.name[..], notice.place.map(|place| place.service)), (name, Some(SERVICE)));
    desk.open(name).await.unwrap_or_else(|why| panic!("{name}: {why:?}"))
}

async fn registered(desk: &Desk, name: &str) {
    let core = desk.look(Monitor::core);
    desk.request(register(name, core, SERVICE)).await.unwrap();
}

#[test]
fn calls_are_answered_in_any_number_on_the_same_core_and_on_others() {
    let sums = on_cores(
        async |desk, spawner| {
            let core = desk.look(Monitor::core);
            if core == 2 {
                let listener = desk.offer(SERVICE);
                registered(&desk, "double").await;
                let turns = spawner.clone();
                let serve = async move {
                    loop {
                        let mut wire = listener.accept().await;
                        let serve = async move {
                            rpc::serve(&mut wire, |body| body.map(|word| 2 * word)).await;
                        };
                        turns.spawn("answers", serve).unwrap();
                    }
                };
                spawner.spawn("server", serve).unwrap();
            }
            let mut client = Client::new(opened(&desk, "double").await, 8);
            let (mut made, mut answered) = (0_u64, 0);
            let mut asked = [0; 64];
            while answered < ROUNDS {
                if made < ROUNDS
                    && let Some(call) = client.call([made, u64::from(core), 0, 0, 0]).await.unwrap()
                {
                    asked[call.word() as usize] = made;
                    made += 1;
                    continue;
                }
                let (call, body) = client.answer().await.unwrap();
                assert_eq!(body, [2 * asked[call.word() as usize], 2 * u64::from(core), 0, 0, 0]);
                answered += 1;
            }
        },
        |core| {
            let mut all = std::collections::BTreeMap::new();
            core.tasks
                .spawner()
                .ledger()
                .each(|account, name, sums| _ = all.insert(account.label(name), sums));
            all
        },
    );
    let served = &sums[1];
    for client in ["core1", "core3"] {
        assert!(served[client].paid > 0, "{client} pays for what is done for it: {served:?}");
        assert_eq!(served[client].worked, 0, "{client} does nothing here");
    }
    let answers: u64 =
        served.iter().filter(|(name, _)| name.starts_with("answers")).map(|(_, s)| s.sent).sum();
    assert_eq!(answers, 3 * ROUNDS, "{served:?}");
    for sums in &sums {
        let (worked, paid) = sums.values().fold((0, 0), |(w, p), sums| (w + sums.worked, p + sums.paid));
        assert_eq!(worked, paid);
    }
}

/// One number after the other, and what they add up to.
struct Adding;

impl Named for Adding {
    type Round = Send<u64, Recv<[u64; 2], Again<Adding>>>;
}

#[test]
fn a_typed_conversation_goes_from_core_to_core() {
    on_cores(
        async |desk, _| match desk.look(Monitor::core) {
            1 => {
                let listener = desk.offer(SERVICE);
                registered(&desk, "adder").await;
                let mut sum = 0_u64;
                // Of the other two, one after the other.
                for _ in 2..=CORES {
                    let wire = listener.accept().await;
                    let mut session =
                        Session::<<Again<Adding> as io_rings::session::Protocol>::Dual, _>::new(wire);
                    while let Ok((number, heard)) = receive(session.again()).await {
                        sum += number;
                        session = send(heard, [number, sum]).await.unwrap();
                    }
                }
                assert_eq!(sum, (CORES as u64 - 1) * ROUNDS * (ROUNDS - 1) / 2);
            }
            _ => {
                let mut session = Session::<Again<Adding>, _>::new(opened(&desk, "adder").await);
                for number in 0..ROUNDS {
                    let asked = send(session.again(), number).await.unwrap();
                    let ([same, _], next) = receive(asked).await.unwrap();
                    assert_eq!(same, number);
                    session = next;
                }
            }
        },
        |_| {},
    );
}

/// A page goes there and comes back, again and again.
struct Milling;

impl Named for Milling {
    type Round = Send<Page, Recv<Page, Again<Milling>>>;
}

#[test]
fn pages_change_hands_on_the_same_core_and_on_others() {
    on_cores(
        async |desk, spawner| {
            let core = desk.look(Monitor::core);
            if core == 2 {
                let listener = desk.offer(SERVICE);
                registered(&desk, "mill").await;
                let turns = spawner.clone();
                let mill = async move {
                    loop {
                        let wire = listener.accept().await;
                        let work = async move {
                            type Miller = <Again<Milling> as io_rings::session::Protocol>::Dual;
                            let mut session = Session::<Miller, _>::new(wire);
                            while let Ok((page, heard)) = receive(session.again()).await {
                                let double = |word: &AtomicU64| {
                                    word.store(2 * word.load(Ordering::Relaxed), Ordering::Relaxed);
                                };
                                page.with(|words| words.iter().for_each(double)).unwrap();
                                session = send(heard, page).await.unwrap();
                            }
                        };
                        turns.spawn("miller", work).unwrap();
                    }
                };
                spawner.spawn("mill", mill).unwrap();
            }
            let mut session = Session::<Again<Milling>, _>::new(opened(&desk, "mill").await);
            for round in 0..ROUNDS / 10 {
                let asking = session.again();
                let mut page = asking.wire().page().await.unwrap();
                page.note[0] = round;
                let ask = round << 8 | u64::from(core);
                page.with(|words| words.iter().for_each(|word| word.store(ask, Ordering::Relaxed))).unwrap();
                let asked = send(asking, page).await.unwrap();
                let (page, next): (Page, _) = receive(asked).await.unwrap();
                assert_eq!(page.note[0], round);
                let doubled = |words: &[AtomicU64; WORDS]| {
                    words.iter().all(|word| word.load(Ordering::Relaxed) == 2 * ask)
                };
                assert!(page.with(doubled).unwrap(), "core {core}, round {round}");
                session = next;
            }
        },
        |_| {},
    );
}

#[test]
fn a_watch_tells_of_names_as_they_come_and_go_and_what_is_not_offered_is_refused() {
    const TIMES: usize = 20;
    on_cores(
        async |desk, _| {
            let core = desk.look(Monitor::core);
            if core == 3 {
                for _ in 0..TIMES {
                    registered(&desk, "lamp/desk").await;
                    desk.request(Op::Name(crate::replica::names::NameOp::Unregister {
                        name: "lamp/desk".into(),
                        core,
                    }))
                    .await
                    .unwrap();
                }
                registered(&desk, "lamp/last").await;
            }
            let watch = desk.watch("lamp/");
            let mut last = None;
            loop {
                let notice = watch.next().await;
                if notice.name == "lamp/last" {
                    break;
                }
                assert_ne!(notice.place.is_some(), last.unwrap_or(false), "it comes and goes by turns");
                last = Some(notice.place.is_some());
            }
            assert_eq!(desk.open("lamp/last").await.err(), Some(NotOpen::Refused));
            assert_eq!(desk.open("lamp/none").await.err(), Some(NotOpen::NoSuchName));
        },
        |core| {
            assert_eq!(
                core.desk.look(Monitor::epoch).map(|epoch| epoch.1),
                Some((1..=CORES as u8).collect::<CoreSet>())
            )
        },
    );
}
