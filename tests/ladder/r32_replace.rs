//! A kernel of another image takes over a running core; one that fails does not, whatever it does. On the machine of rung 28.

use ladder::{Check, Result, Stage, ensure, load::Load, mesh, watch::until, wrong};
use toolstack::{
    control::{Client, Replaced},
    verbs::core::ask_replace,
};

use crate::r28_multikernel::{MEMBERS, ask, calls, said, start};

/// What becomes of the kernels that shall take over, one after the other, and what is said of those that fail.
const TRIALS: [(&str, &str); 12] = [
    ("", ""),
    ("read", "failed as it was told to"),
    ("", ""),
    ("version", "cannot read a package of this version"),
    ("panic", "panicked"),
    ("", ""),
    ("fault", "triple fault"),
    ("mesh", "failed as it was told to"),
    ("monitor", "failed as it was told to"),
    ("hang", "was not done in time"),
    ("built", "failed as it was told to"),
    ("", ""),
];
/// So often each of them is done.
const ROUNDS: usize = 2;
/// Calls of each of two clients at a time.
const CALLS: u32 = 5_000;
/// The builds, and the one that can fail.
pub const IMAGES: [&str; 2] = ["multikernel", OTHER];
const OTHER: &str = "successor";
/// Ticks without a kernel on the core, the time of its boot among them.
const PAUSE: u64 = 1_000_000;

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r32_replace::another_image_takes_over_under_calls_or_does_not", replaces),
        Check::new("r32_replace::refusals_say_how_to_mend_it", refusals),
        Check::new("r32_replace::one_that_dies_after_it_has_taken_over_is_dead", late),
    ]
}

/// Of a scene that has come to its end: members anew.
pub fn checks_at_the_end() -> Vec<Check> {
    vec![Check::new("r32_replace::a_guest_that_is_destroyed_meanwhile_leaves_nothing", destroyed)]
}

/// Lets another kernel take over core 2.
fn replace(client: &Client, image: &str, fails: &str) -> toolstack::error::Result<Replaced> {
    ask_replace(client, 2, Some(image), Some(&format!("pace=poll fails={fails}")))
}

/// Four of them, with a server on core 2: those of the rung before, or new ones.
fn members(client: &Client) -> Result<()> {
    if client.list()?.iter().any(|domain| domain.name == MEMBERS[0]) {
        return Ok(());
    }
    for slot in 1..=MEMBERS.len() {
        start(client, slot, &(1..=slot).collect::<Vec<_>>())?;
    }
    ask(client, 2, "serve service/sum", "serve service/sum: done").map(drop)
}

fn image(client: &Client) -> Result<String> {
    Ok(mesh::find(&client.list()?, MEMBERS[1])?.image.clone())
}

fn epochs(client: &Client) -> Result<Vec<usize>> {
    MEMBERS.iter().map(|name| Ok(mesh::printed(client, name)?.matches("epoch").count())).collect()
}

/// The server's kernel is replaced while clients on two cores call it. Each call is answered once, rightly, and the members
/// notice nothing.
fn replaces(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    members(client)?;
    let (before, free) = (epochs(client)?, client.machine()?.frames_free);
    let mut callers = [calls(client, 1, CALLS)?, calls(client, 3, CALLS)?];
    let mut taken = Vec::new();
    for (trial, (fails, said_of_it)) in TRIALS.into_iter().cycle().take(ROUNDS * TRIALS.len()).enumerate() {
        for caller in &mut callers {
            caller.keep_up()?;
        }
        let old = image(client)?;
        if fails.is_empty() {
            let new = if old == OTHER { IMAGES[0] } else { OTHER };
            taken.push(replace(client, new, fails)?);
            ensure!(image(client)? == new, "the list has {} for {new}", image(client)?);
        } else {
            match replace(client, OTHER, fails) {
                Err(error) if error.to_string().contains(said_of_it) => {}
                other => return Err(wrong(format!("{fails}: {other:?} does not say `{said_of_it}`"))),
            }
            ensure!(image(client)? == old, "the list has {} for {old}", image(client)?);
        }
        if trial % 3 == 0 {
            mesh::audit(client)?;
        }
        ensure!(client.machine()?.frames_free == free, "{fails}: memory is lost");
    }
    let done = callers.into_iter().map(Load::end).sum::<Result<u32>>()?;
    ensure!(epochs(client)? == before, "epochs began: {before:?}, then {:?}", epochs(client)?);
    let names = ask(client, 2, "names", "names:")?;
    ensure!(names.contains(" service/sum@2"), "{names}");
    let median = |of: fn(&Replaced) -> u64| {
        let mut all: Vec<u64> = taken.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let (ticks, pause) = (median(|replaced| replaced.ticks), median(|replaced| replaced.pause));
    println!(
        "{} of {} kernels took over under {done} times {CALLS} calls; medians: {ticks} ticks from request to done, of which \
         {pause} without a kernel, {} bytes",
        taken.len(),
        ROUNDS * TRIALS.len(),
        median(|replaced| replaced.bytes)
    );
    ensure!(pause <= PAUSE, "{pause} ticks without a kernel, {PAUSE} at most");
    Ok(())
}

fn refusals(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let refused = |core, image, word: &str| match client.core_replace(core, image, None) {
        Err(error) if error.to_string().contains(word) => Ok(()),
        other => Err(wrong(format!("{other:?} does not say `{word}`"))),
    };
    refused(0, None, "stays online")?;
    refused(5, None, "no core 5")?;
    refused(2, Some("nothing"), "no image")?;
    let line = "x".repeat(3000);
    match client.core_replace(2, None, Some(&line)) {
        Err(error) if error.to_string().contains("command line") => {}
        other => return Err(wrong(format!("{other:?} is no word about the command line"))),
    }
    mesh::audit(client).map(drop)
}

/// From the moment it has taken over it is a kernel like any other.
fn late(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    replace(client, OTHER, "late")?;
    for slot in [1, 3, 4] {
        said(client, slot, ": {1, 3, 4}")?;
    }
    mesh::audit(client).map(drop)
}

/// Destroyed while its new kernel hangs, or before that has begun: the memory of both is free, and the core too.
fn destroyed(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    for domain in client.list()?.iter().filter(|domain| MEMBERS.contains(&domain.name.as_str())) {
        client.destroy(&domain.name)?;
    }
    let free = client.machine()?.frames_free;
    for looks in [0, 10] {
        start(client, 2, &[2])?;
        client.core_replace(2, Some(OTHER), Some("pace=poll fails=hang"))?;
        for _ in 0..looks {
            ensure!(client.core_replaced()?.is_none(), "a kernel that hangs has taken over");
        }
        mesh::audit(client)?;
        client.destroy(MEMBERS[1])?;
        match client.core_replaced() {
            Err(error) if error.to_string().contains("came to its end") => {}
            other => return Err(wrong(format!("{other:?} is not its end"))),
        }
        mesh::audit(client)?;
        until("its memory", || Ok((client.machine()?.frames_free == free).then_some(())))?;
    }
    Ok(())
}
