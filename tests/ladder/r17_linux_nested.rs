//! Debian's kernel as Atoll's guest, nested: Bochs, in it Linux with KVM, in it QEMU, in it Atoll, in it Linux.

use abi::{control::wire::State, exit_code::ExitCode, xen::sched::reason};
use ladder::{
    Check, Result, Stage, ensure,
    linux::{self, Shell},
    mesh, stage,
};
use toolstack::{config::Config, machine::Kind, verbs::stop};

pub fn checks() -> Vec<Check> {
    vec![Check::new("r17_linux_nested::debian_runs_on_atoll_under_kvm_in_bochs", nested)]
}

fn nested(stage: &mut Stage) -> Result<()> {
    linux::files()?;
    let guests = vec![mesh::member(1, 32, "pace=sleep"), linux::member("linux", &[2])];
    let config = Config { memory_mib: 640, ..linux::machine(3, guests) };
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
    mesh::audit(client)?;
    // The machine itself would take minutes to power off, and has no more to show.
    session.machine.kill();
    let ended = session.machine.log().outcome().and_then(|outcome| outcome.exit_code());
    ensure!(matches!(ended, None | Some(ExitCode::Success)), "ended with {ended:?}");
    Ok(())
}
