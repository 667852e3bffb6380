//! Processors that lack something, as Bochs models them: what Atoll cannot do without is named, with the code for it;
//! what it can do without is done in another way.

use abi::exit_code::ExitCode;
use ladder::{Check, Result, Stage, ensure, mesh, stage};
use toolstack::machine::{Kind, Spec};

use crate::r01_no_vmx::refused;

/// VMX, and no EPT.
const PENRYN: &str = "core2_penryn_t9600";
/// EPT, and no unrestricted guest.
const LYNNFIELD: &str = "corei5_lynnfield_750";
/// All of VMX that is needed, and no x2APIC.
const SANDY_BRIDGE: &str = "corei7_sandy_bridge_2600k";

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r02_processors::without_ept_is_told_so", |stage| {
            let spec = of(stage, PENRYN, 1)?;
            refused(stage, &spec, ExitCode::NoEpt, "VMX has no extended page tables")
        }),
        Check::new("r02_processors::without_unrestricted_guest_is_told_so", |stage| {
            let spec = of(stage, LYNNFIELD, 1)?;
            refused(stage, &spec, ExitCode::NoUnrestrictedGuest, "VMX has no unrestricted guest")
        }),
        Check::new("r02_processors::without_x2apic_guests_run_all_the_same", without_x2apic),
    ]
}

fn of(stage: &Stage, processor: &str, cores: u32) -> Result<Spec> {
    let spec = stage::spec(Kind::Bochs, &mesh::machine(cores, ""), stage.directory(processor))?;
    Ok(Spec { processor: Some(processor.to_owned()), ..spec })
}

/// Cores start, kick each other and interrupt guests through xAPIC; guests sleep and are woken.
fn without_x2apic(stage: &mut Stage) -> Result<()> {
    let spec = of(stage, SANDY_BRIDGE, 3)?;
    let session = stage.attend(&spec)?;
    let guests = ["mesh1", "mesh2"];
    mesh::go_on(&session.client, &guests, "on a machine without x2APIC")?;
    session.client.pause("mesh2")?;
    session.client.unpause("mesh2")?;
    mesh::go_on(&session.client, &guests, "after a pause on a machine without x2APIC")?;
    mesh::none_lost(&session.client, &guests)?;
    let outcome = session.stop()?;
    ensure!(outcome.exit_code() == Some(ExitCode::Success), "ended with {:#x}", outcome.code);
    Ok(())
}
