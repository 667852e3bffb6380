//! What it takes to remove a core with a member of the multikernel and to bring it back, beside Linux's CPU hot-plug; and
//! whether the others go on meanwhile.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use guest_kernel::{agreement::Topology, knowledge::Knowledge, labs::members};

use super::{
    Guests, Lab, Paper, hosted,
    result::{Panel, Series, Verdict},
    stopwatch::Bench,
    vm,
};
use crate::{
    control::{Console, Offline},
    error::{Error, Result},
    verbs::{core::ask_offline, topology::host},
};

/// See the module.
pub const LAB: Lab = Lab {
    name: "hotplug",
    title: "A core goes, and comes back",
    paper: Paper {
        citation: "Zellweger et al., Decoupling Cores, Kernels, and Operating Systems, OSDI 2014",
        says: "In Linux, to remove a core and to add one takes long, since all cores have to agree while the machine stands; where \
               each core has a kernel of its own whose state is an object, it takes a fraction, and the others go on.",
        shape,
    },
    note: "A member of the multikernel leaves the epoch, suspends itself, is kept, and goes on; the others agree on one operation \
           after the other meanwhile. Linux's two figures are constants: Linux 6.1, measured once with 2 CPUs in the same emulator \
           (medians of 21). On the host a thread leaves the epoch and comes in again, but keeps its processor.",
    on_host: Ok(on_host),
    in_vm: Ok(in_vm),
    judge,
};

/// From request to done.
pub const TITLE: &str = "From request to done";
/// What goes on meanwhile.
pub const OTHERS: &str = "An operation of the others, in two phases";
const DIRECTION: &str = "direction (1 down, 2 up)";
const WHEN: &str = "when (1 undisturbed, 2 meanwhile)";
const LINUX_NAME: &str = "Linux 6.1, once, 2 CPUs";
/// Linux's ticks in Bochs: down, up.
const LINUX: [f64; 2] = [59_700_000.0, 80_200_000.0];
/// Members in a virtual machine, of which the last goes and comes.
const MEMBERS: usize = 3;
/// Operations of the others while it does: so many that it goes several times.
const OPERATIONS: u64 = 500;

fn two(name: &str, first: f64, second: f64) -> Series {
    Series::new(name, vec![(1.0, first), (2.0, second)])
}

fn shape() -> Vec<Panel> {
    let way = vec![two("a kernel a core", 1.0, 1.0), two("Linux", 30.0, 40.0)];
    vec![
        super::drawn(TITLE, DIRECTION, way),
        super::drawn(OTHERS, WHEN, vec![two("a kernel a core", 1.0, 1.0)]),
    ]
}

/// The last of as many threads as there are processors leaves the others and comes back, while the first asks all the time.
fn on_host(bench: &Bench) -> Result<Vec<Panel>> {
    let count = bench.cores();
    if count < 2 {
        return Err(Error::new("one processor cannot do without itself", "run it with `--on vm`"));
    }
    let broken = || Error::new("members on threads do not agree", "this is a bug: report it");
    let (cycles, tree) = (bench.operations(1_000), Topology::of(&Knowledge::of_machine(&host::topology()?)));
    let all = members::gather(count, &tree).ok_or_else(broken)?;
    let all: Vec<_> = all.into_iter().map(|member| Mutex::new(Some(member))).collect();
    let [goes, gone, over] = [const { AtomicBool::new(false) }; 3];
    let times = bench.together(count, |core, _| {
        let mut member = all[core].lock().ok()?.take()?.begin()?;
        while member.members() < count as u32 {
            member.turn();
        }
        let (mut down, mut up) = (Vec::new(), Vec::new());
        if core == 0 {
            let mut operations = |number: u64| {
                let begun = Instant::now();
                member.operate(2, number, 1).then(|| begun.elapsed().as_nanos() as u64 / number)
            };
            down.push(operations(cycles)?);
            goes.store(true, Ordering::Release);
            while !gone.load(Ordering::Acquire) {
                up.push(operations(1)?);
            }
            over.store(true, Ordering::Release);
            let mean = up.iter().sum::<u64>() as f64 / up.len().max(1) as f64;
            return Some((down[0] as f64, mean));
        }
        while !goes.load(Ordering::Acquire) {
            member.turn();
        }
        if core == count - 1 {
            for _ in 0..cycles {
                let (left, came) = member.go_and_come(count as u32);
                down.push(left.as_nanos() as u64);
                up.push(came.as_nanos() as u64);
            }
            gone.store(true, Ordering::Release);
        }
        while !over.load(Ordering::Acquire) {
            member.turn();
        }
        Some((median(down), median(up)))
    })?;
    let times: Vec<(f64, f64)> = times.into_iter().collect::<Option<_>>().ok_or_else(broken)?;
    let (Some(&others), Some(&leaver)) = (times.first(), times.last()) else { return Err(broken()) };
    let mut panels = vec![hosted(bench, TITLE, DIRECTION, "ns", vec![two("atoll", leaver.0, leaver.1)])];
    // Where there are two, the only other one has nobody to agree with meanwhile.
    if count > 2 {
        panels.push(hosted(bench, OTHERS, WHEN, "ns", vec![two("atoll", others.0, others.1)]));
    }
    Ok(panels)
}

/// Takes the core of the last member out and back in, again and again, as long as the first one's operations last.
pub fn in_vm(guests: &Guests<'_>) -> Result<Vec<Panel>> {
    let client = guests.client;
    for member in 1..=MEMBERS {
        vm::start(client, member, "machine")?;
    }
    vm::gathered(client, MEMBERS)?;
    let bench = format!("bench 2pc {OPERATIONS}");
    let undisturbed = vm::ticks(&vm::ask(client, 1, &bench, "bench")?)?;
    let first = vm::name(1);
    let (mut console, mut text) = (Console::new(client, &first), String::new());
    console.read(false)?;
    client.input(&first, format!("{bench}\n").as_bytes())?;
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let meanwhile = loop {
        let Offline { ticks, .. } = ask_offline(client, MEMBERS as u32)?;
        down.push(ticks);
        let (_, _, ticks) = client.core_online(MEMBERS as u32, None, false)?;
        up.push(ticks);
        vm::newest_epoch(client, MEMBERS, "{1, 2, 3}")?;
        text.push_str(&String::from_utf8_lossy(&console.read(false)?));
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        if let Some(line) = lines.find(|line| line.contains("bench 2pc:") || line.contains("refused")) {
            break vm::ticks(line)?;
        }
    };
    (1..=MEMBERS).try_for_each(|member| client.destroy(&vm::name(member)))?;
    let panel = |title: &str, x, y: &str, series| Panel {
        title: title.to_owned(),
        x,
        y: y.to_owned(),
        label: guests.label,
        machine: guests.machine.clone(),
        series,
    };
    let [undisturbed, meanwhile] = [undisturbed, meanwhile].map(|ticks| (ticks / OPERATIONS) as f64);
    let way = vec![two("atoll", median(down), median(up)), two(LINUX_NAME, LINUX[0], LINUX[1])];
    Ok(vec![
        panel(TITLE, DIRECTION, "ticks", way),
        panel(OTHERS, WHEN, "ticks", vec![two("atoll", undisturbed, meanwhile)]),
    ])
}

fn median(mut times: Vec<u64>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |&time| time as f64)
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    const DOWN: &str = "to remove a core takes a fraction of Linux's time";
    const UP: &str = "and so does to bring it back";
    const GO_ON: &str = "the others go on meanwhile";
    let [way, others @ ..] = panels else { return Vec::new() };
    let of = |claim, x| {
        if way.label != "emulated" {
            return Verdict::cannot(claim, "Linux's figures are of Bochs, and this is not".to_owned());
        }
        let what = "ticks, Linux 6.1 (once, 2 CPUs) against Atoll";
        Verdict::at_least(claim, way.at(LINUX_NAME, x), 2.0, way.at("atoll", x), what)
    };
    let what = "an operation of theirs, undisturbed against meanwhile";
    let at = |x| others.first()?.at("atoll", x);
    let (undisturbed, meanwhile) = (at(1.0), at(2.0));
    vec![of(DOWN, 1.0), of(UP, 2.0), Verdict::at_least(GO_ON, undisturbed, 0.5, meanwhile, what)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::result::Outcome::{self, CannotBeJudged, DoesNot, Holds};

    fn outcomes(label: &'static str, down: f64, up: f64, meanwhile: f64) -> Vec<Outcome> {
        let way = vec![two("atoll", down, up), two(LINUX_NAME, LINUX[0], LINUX[1])];
        let others = vec![two("atoll", 30_000.0, meanwhile)];
        let panel = |title, series| Panel { label, ..super::super::drawn(title, "direction", series) };
        let panels = [panel(TITLE, way), panel(OTHERS, others)];
        judge(&panels).into_iter().map(|verdict| verdict.outcome).collect()
    }

    #[test]
    fn judged_by_the_figures() {
        assert_eq!(outcomes("emulated", 200_000.0, 2_000_000.0, 40_000.0), [Holds; 3]);
        assert_eq!(outcomes("emulated", 50_000_000.0, 2_000_000.0, 61_000.0), [DoesNot, Holds, DoesNot]);
        assert_eq!(outcomes("nested", 2e5, 2e6, 3e4), [CannotBeJudged, CannotBeJudged, Holds]);
    }

    #[test]
    fn a_thread_goes_and_comes() {
        let bench = Bench::host(true);
        if bench.cores() < 2 {
            return assert!(on_host(&bench).is_err());
        }
        let panels = on_host(&bench).unwrap();
        assert!([1.0, 2.0].iter().all(|&x| panels.iter().all(|panel| panel.at("atoll", x) > Some(0.0))));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!([median(vec![3, 1, 2]), median(vec![])], [2.0, 0.0]);
    }
}
