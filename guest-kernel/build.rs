//! Places the images in memory: see `boot/link.ld`.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../boot/link.ld");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
}
