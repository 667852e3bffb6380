//! Pause: the paused guest stands still and the others go on; afterwards it goes on where it was.

use abi::control::wire::State;
use ladder::{Check, Result, Stage, ensure, mesh};

use crate::r05_mesh::GUESTS;

pub fn checks() -> Vec<Check> {
    vec![Check::new("r08_pause::a_paused_guest_stands_still_and_loses_nothing", paused)]
}

fn paused(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let (still, others) = (GUESTS[1], [GUESTS[0], GUESTS[2]]);
    client.pause(still)?;
    // What it had reported before may be read by domain 0 meanwhile.
    mesh::go_on(client, &others, "after one was paused")?;
    let before = client.domain(still)?;
    ensure!(before.state == State::Paused, "{still} is {:?}", before.state);
    mesh::go_on(client, &others, "while one is paused")?;
    let after = client.domain(still)?;
    // Its peers may well send it events; of its own doing there is nothing.
    let own = |domain: &abi::control::wire::Domain| {
        (domain.exits, domain.events_out, domain.messages_in, domain.messages_out)
    };
    ensure!(own(&before) == own(&after), "{still} moved: {before:?}, then {after:?}");
    let twice = client.pause(still).err().map(|error| error.what().to_owned());
    ensure!(twice.is_some_and(|what| what.contains("paused")), "{still} was paused twice");

    client.unpause(still)?;
    mesh::go_on(client, &GUESTS, "after all go on")?;
    mesh::none_lost(client, &GUESTS)
}
