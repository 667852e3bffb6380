//! The rungs, from the ground up. See the library for how they are run.

mod r01_no_vmx;
mod r03_boot;
mod r05_mesh;
mod r06_isolation;

use std::process::ExitCode;

use ladder::{Scene, mesh, runner};
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if let Err(error) = toolstack::leftovers::clear_on_signals() {
        eprintln!("ladder: {error}");
    }
    runner::run(arguments, scenes())
}

fn scenes() -> Vec<Scene> {
    let mut on_the_mesh = r05_mesh::checks();
    on_the_mesh.extend(r06_isolation::checks());
    vec![
        Scene::new("no-vmx", r01_no_vmx::checks()),
        Scene::new("boot", r03_boot::checks()),
        Scene::on("mesh", mesh::machine(4, "pace=poll"), on_the_mesh),
    ]
}
