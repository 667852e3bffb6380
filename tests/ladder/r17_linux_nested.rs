//! Debian's kernel as Atoll's guest, nested: Bochs, in it Linux with KVM, in it QEMU, in it Atoll, in it Linux: as a para
//! guest, and as a full one on EPT.

use abi::{control::wire::State, exit_code::ExitCode, xen::sched::reason};
use ladder::{
    Check, Result, Stage, ensure,
    linux::{self, Shell},
    mesh, stage,
};
use toolstack::{config::Config, machine::Kind, verbs::stop};

use crate::r24_full;

pub fn checks() -> Vec<Check> {
    vec![Check::new("r17_linux_nested::debian_runs_para_and_full_on_atoll_under_kvm_in_bochs", nested)]
}

fn nested(stage: &mut Stage) -> Result<()> {
    linux::files()?;
    let full = r24_full::member(r24_full::ONE, &[3]);
    let guests = vec![mesh::member(1, 32, "pace=sleep"), linux::member("linux", &[2]), full];
    let config = Config { memory_mib: 896, ..linux::machine(4, guests) };
    let spec = stage::spec(Kind::Nested, &config, stage.directory("nested"))?;
    let mut session = stage.attend(&spec)?;
    let client = &session.client;
    let mut shell = Shell::of(client, "linux")?;
    ensure!(shell.run("nproc")? == "1", "it has not one CPU");
    ensure!(shell.run("cat /sys/hypervisor/type")? == "xen", "it does not know Xen");
    ensure!(shell.run("xs read name")? == "linux", "it read another name");
    shell.run("sleep 1")?;
    let became = stop::ask_and_wait(client, stop::Wish::Shutdown, "linux", linux::BOOT)?;
    let expected = stop::Became::Stopped(State::Shutdown(reason::POWEROFF));
    ensure!(became == expected, "asked to shut down it became {became:?}");
    let mut full = Shell::of(client, r24_full::ONE)?;
    ensure!(full.run("grep -c hypervisor /proc/cpuinfo || true")? == "0", "the full guest has the bit");
    ensure!(full.run("sleep 1; grep -c ttyS0 /proc/interrupts")? == "1", "its serial port has no interrupt");
    full.last("poweroff -f")?;
    linux::becomes(client, r24_full::ONE, State::Shutdown(reason::POWEROFF))?;
    mesh::audit(client)?;
    // The machine itself would take minutes to power off, and has no more to show.
    session.machine.kill();
    let ended = session.machine.log().outcome().and_then(|outcome| outcome.exit_code());
    ensure!(matches!(ended, None | Some(ExitCode::Success)), "ended with {ended:?}");
    Ok(())
}
