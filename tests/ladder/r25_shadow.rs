//! The same kernel and the same checks without EPT: shadow page tables translate the guest's memory.

use abi::{
    control::{
        hypercall::ExitKind,
        wire::{GuestConfig, Paging, State},
    },
    xen::sched::reason,
};
use ladder::{
    Check, Result, Stage, ensure,
    linux::{self, Shell},
    mesh,
    watch::until_within,
};
use toolstack::config::Config;

use crate::r24_full::{self, ONE, healthy, session};

fn member(name: &str, cores: &[u32]) -> GuestConfig {
    GuestConfig { paging: Paging::Shadow, ..r24_full::member(name, cores) }
}

pub fn machine() -> Config {
    linux::machine(4, vec![member(ONE, &[1])])
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r25_shadow::debian_boots_to_a_shell_on_its_serial_port", shell),
        Check::new("r25_shadow::it_finds_no_hypervisor", r24_full::no_hypervisor),
        Check::new("r25_shadow::its_interrupts_come_by_the_apics", r24_full::interrupts),
        Check::new("r25_shadow::it_keeps_time_and_its_output_whole", r24_full::time_and_output),
        Check::new("r25_shadow::processes_keep_their_memory_apart_and_whole", processes),
        Check::new("r25_shadow::no_memory_is_translated_by_ept", no_ept),
        Check::new("r25_shadow::what_has_no_shadows_is_refused_with_a_sentence", refused),
        Check::new("r25_shadow::it_restarts_when_it_resets_its_pc", r24_full::reset),
        Check::new("r25_shadow::it_switches_itself_off_and_gives_all_memory_back", power_off),
    ]
}

fn shell(stage: &mut Stage) -> Result<()> {
    healthy(&session(stage)?.client, ONE, "1")
}

/// Forks, copies on write, files in memory that are mapped and dropped: page tables that come, change and go.
fn processes(stage: &mut Stage) -> Result<()> {
    let mut shell = Shell::of(&session(stage)?.client, ONE)?;
    let make =
        "mkdir -p /tmp/t && mount -t tmpfs t /tmp/t && cd /tmp/t && dd if=/dev/urandom of=a bs=64k count=64";
    shell.run(&format!("{make} 2>/dev/null"))?;
    let sums = shell.run(
        "i=0; while [ $i -lt 8 ]; do (cp a b$i; v=$i; [ $v = $i ] && md5sum < b$i) & i=$((i+1)); done; wait; \
         md5sum < a",
    )?;
    let sums: Vec<&str> = sums.lines().collect();
    ensure!(sums.len() == 9 && sums.iter().all(|sum| *sum == sums[0]), "copies differ: {sums:?}");
    let deep = shell.run("f() { [ $1 = 0 ] && echo end || (f $(($1-1))); }; f 24")?;
    ensure!(deep == "end", "processes in processes end in {deep}");
    shell.run("cd / && umount /tmp/t")?;
    Ok(())
}

fn no_ept(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let domain = client.domain(ONE)?;
    let exits = |kind: ExitKind| domain.exits[kind as usize];
    ensure!(exits(ExitKind::EptViolation) == 0, "it had EPT violations");
    ensure!(exits(ExitKind::Exception) > 0, "no page fault of its exited");
    ensure!(exits(ExitKind::ControlRegister) > 0, "no load of its CR3 exited");
    mesh::audit(client)?;
    Ok(())
}

fn refused(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let para = GuestConfig { paging: Paging::Shadow, ..linux::member("no", &[2]) };
    for (guest, sentence) in [
        (para, "shadow page tables are for full guests, and this is a para guest"),
        (member("no", &[2, 3]), "shadow page tables are kept for one virtual CPU, and this guest has more"),
    ] {
        let Err(error) = client.create(guest) else {
            return Err(ladder::wrong(format!("a guest was made although {sentence}")));
        };
        ensure!(error.to_string().contains(sentence), "it was refused with {error}");
    }
    Ok(())
}

fn power_off(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let held = client.machine()?.frames_free;
    Shell::of(client, ONE)?.last("poweroff -f")?;
    until_within(linux::BOOT, "the guest's end", || {
        let state = client.domain(ONE)?.state;
        Ok((state == State::Shutdown(reason::POWEROFF)).then_some(()))
    })?;
    client.destroy(ONE)?;
    mesh::audit(client)?;
    let free = client.machine()?.frames_free;
    client.create(member(ONE, &[1]))?;
    let taken = client.machine()?.frames_free;
    ensure!(
        taken == held,
        "the same guest takes {} frames more than before",
        held.wrapping_sub(taken) as i64
    );
    client.destroy(ONE)?;
    let again = client.machine()?.frames_free;
    ensure!(again == free, "{free} frames were free before it, and {again} after");
    Ok(())
}
