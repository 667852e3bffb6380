//! Isolation: a walk of every EPT finds no frame where it does not belong, while the guests run.

use ladder::{Check, Result, Stage, ensure, mesh};

use crate::r05_mesh::GUESTS;

pub fn checks() -> Vec<Check> {
    vec![Check::new("r06_isolation::no_frame_is_where_it_does_not_belong", audit)]
}

fn audit(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let report = mesh::audit(client)?;
    let domains = GUESTS.len() as u64 + 1;
    ensure!(report.domains == domains, "{} domains were walked, not {domains}", report.domains);
    // Each guest shares pages with domain 0 at least, and all have memory of their own.
    ensure!(report.shared >= domains && report.mappings > report.shared, "too little was seen: {report:?}");
    mesh::go_on(client, &GUESTS, "after the walk")?;
    mesh::none_lost(client, &GUESTS)
}
