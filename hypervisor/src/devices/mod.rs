//! The devices of a full guest's PC: models of chips, each in a file, each pure. They know no time but what is passed in,
//! no processor but what is returned to, and no memory; [`crate::pc`] wires them together.

pub mod cmos;
pub mod io_apic;
pub mod local_apic;
pub mod pic;
pub mod pit;
pub mod pm;
pub mod uart;
