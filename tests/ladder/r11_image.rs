//! A CD image on a machine that nobody attends: it boots and starts its guests by itself.

use ladder::{Check, Result, Stage, command::atoll, ensure, stage, watch::until};
use toolstack::{
    config::Config,
    machine::{Boot, Kind, Spec},
};

pub fn checks() -> Vec<Check> {
    vec![Check::new("r11_image::a_cd_starts_its_guests_by_itself", unattended)]
}

fn unattended(stage: &mut Stage) -> Result<()> {
    let directory = stage.directory("unattended");
    stage.look_into(directory.join("stderr"));
    let cd = directory.join("atoll.iso");
    let (status, said) = atoll(&["image", "-o", &cd.display().to_string()], &directory)?;
    ensure!(status.success(), "`atoll image` ended with {status}: {said}");

    let config = Config::standard();
    let spec =
        Spec { boot: Boot::Iso(cd), unattended: true, ..stage::spec(Kind::Bochs, &config, directory)? };
    let mut machine = stage.start(&spec)?;
    let log = machine.log().clone();
    let line = format!("atoll: {} guests running", config.machine.guests.len());
    until(&format!("`{line}`"), || {
        ensure!(machine.is_running(), "the machine ended");
        Ok(log.says(&line).then_some(()))
    })?;
    until("the guests' own lines", || {
        let all = (1..config.cores).all(|core| log.says(&format!("[mesh{core}] mesh: slot {core} of")));
        Ok((all && log.says("the token went round in 3 hops")).then_some(()))
    })?;
    ensure!(log.outcome().is_none(), "it ended by itself: {:?}", log.outcome());
    machine.kill();
    Ok(())
}
