//! Debian's kernel as Atoll's guest, nested: Bochs, in it Linux with KVM, in it QEMU, in it Atoll, in it Linux: as a para
//! guest, and as a full one on EPT.

use abi::{control::wire::State, xen::sched::reason};
use ladder::{
    Check, Result, Stage, ensure,
    linux::{self, Shell},
    mesh,
};
use toolstack::{config::Config, verbs::stop};

use crate::r24_full;

pub fn checks() -> Vec<Check> {
    vec![Check::new("r17_linux_nested::debian_runs_para_and_full_on_atoll_under_kvm_in_bochs", nested)]
}

/// Four cores, and a place for a fifth.
pub fn machine() -> Config {
    let full = r24_full::member(r24_full::ONE, &[3]);
    let guests = vec![mesh::member(1, 32, "pace=sleep"), linux::member("linux", &[2]), full];
    Config { memory_mib: 896, max_cores: Some(5), ..linux::machine(4, guests) }
}

fn nested(stage: &mut Stage) -> Result<()> {
    linux::files()?;
    let client = &stage.session()?.client;
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
    for name in ["mesh1", "linux", r24_full::ONE] {
        client.destroy(name)?;
    }
    // The machine itself would take minutes to power off.
    mesh::audit(client).map(drop)
}
