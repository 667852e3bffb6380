//! The rungs, from the ground up. See the library for how they are run.

mod r01_no_vmx;
mod r02_processors;
mod r03_boot;
mod r04_figures;
mod r05_mesh;
mod r06_isolation;
mod r07_hostile;
mod r08_pause;
mod r09_churn;
mod r10_line;
mod r11_image;
mod r12_demo;
mod r13_nested;
mod r14_kvm;
mod r15_linux;
mod r16_linux_two;
mod r17_linux_nested;
mod r18_abi;
mod r19_siblings;
mod r20_grants;
mod r21_real_xen;
mod r22_para;
mod r23_device;
mod r24_full;
mod r25_shadow;
mod r26_store;
mod r27_modes;
mod r28_multikernel;
mod r29_hotplug;
mod r30_firmware;
mod r31_labs;
mod r32_replace;
mod r33_multikernel_nested;

use std::process::ExitCode;

use ladder::{Scene, mesh, runner};
use libtest_mimic::Arguments;
use toolstack::machine::Kind;

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
    on_the_mesh.extend(r08_pause::checks());
    on_the_mesh.extend(r09_churn::checks());
    let mut on_linux = r15_linux::checks();
    on_linux.extend(r16_linux_two::checks());
    let mut nested = r17_linux_nested::checks();
    nested.extend(r33_multikernel_nested::checks());
    vec![
        Scene::new("no-vmx", r01_no_vmx::checks()),
        Scene::new("processors", r02_processors::checks()),
        Scene::new("boot", r03_boot::checks()),
        Scene::new("figures", r04_figures::checks()),
        Scene::on("mesh", mesh::machine(4, "pace=poll"), on_the_mesh),
        Scene::on("hostile", r07_hostile::machine(), r07_hostile::checks()),
        Scene::on("abi", r18_abi::machine(), r18_abi::checks()),
        Scene::on("siblings", r19_siblings::machine(), r19_siblings::checks()),
        Scene::on("grants", r20_grants::machine(), r20_grants::checks()),
        Scene::new("xen", r21_real_xen::checks()),
        Scene::new("para", r22_para::checks()),
        Scene::on("device", r23_device::machine(), r23_device::checks()),
        Scene::on("store", r26_store::machine(), r26_store::checks()),
        Scene::on("multikernel", r28_multikernel::machine(), r28_multikernel::checks()),
        Scene::on("firmware", r30_firmware::machine(), r30_firmware::checks()),
        Scene::on("labs", r31_labs::machine(), r31_labs::checks()),
        Scene { long: true, ..Scene::on("hotplug", r29_hotplug::machine(), r29_hotplug::checks()) },
        Scene { long: true, ..Scene::new("modes", r27_modes::checks()) },
        Scene::new("line", r10_line::checks()),
        Scene::new("image", r11_image::checks()),
        Scene::new("demo", r12_demo::checks()),
        Scene { long: true, ..Scene::new("nested", r13_nested::checks()) },
        Scene::new("kvm", r14_kvm::checks()),
        Scene { long: true, ..Scene::on("linux", r15_linux::machine(), on_linux) },
        Scene { long: true, ..Scene::on("full", r24_full::machine(), r24_full::checks()) },
        Scene { long: true, ..Scene::on("shadow", r25_shadow::machine(), r25_shadow::checks()) },
        Scene {
            long: true,
            kind: Kind::Nested,
            ..Scene::on("linux-nested", r17_linux_nested::machine(), nested)
        },
    ]
}
