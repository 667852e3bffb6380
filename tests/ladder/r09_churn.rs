//! A guest is destroyed and created fifty times: no frame is lost, and the others lose no message.

use ladder::{Check, Result, Stage, ensure, mesh};

use crate::r05_mesh::GUESTS;

/// How often.
const TIMES: u32 = 50;
/// Every so often the new guest is left to talk before it is destroyed; else it is destroyed in the midst of its start.
const TALKS: u32 = 10;

pub fn checks() -> Vec<Check> {
    vec![Check::new("r09_churn::fifty_lives_of_a_guest_cost_no_frame_and_no_message", churn)]
}

fn churn(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let (comes_and_goes, others) = (GUESTS[2], [GUESTS[0], GUESTS[1]]);
    // Small, so that its memory is scrubbed in no time; and the same from the first count of frames to the last.
    let config = mesh::member(3, 8, "pace=poll");
    client.destroy(comes_and_goes)?;
    client.create(config.clone())?;
    mesh::go_on(client, &GUESTS, "before the first of many deaths")?;
    let free = client.machine()?.frames_free;
    for time in 1..=TIMES {
        client.destroy(comes_and_goes)?;
        let (_, cores, _) = client.create(config.clone())?;
        ensure!(cores == [3], "life {time} is on {cores:?}");
        if time % TALKS == 0 {
            mesh::go_on(client, &GUESTS, &format!("in life {time}"))?;
            let now = client.machine()?.frames_free;
            ensure!(now == free, "{free} frames were free before, and {now} in life {time}");
            mesh::audit(client)?;
        }
    }
    mesh::go_on(client, &others, "after the last life began")?;
    mesh::none_lost(client, &GUESTS)
}
