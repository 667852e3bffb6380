//! How the machine is controlled: toolstack → control domain over a serial line ([`wire`], in [`frame`]s), control
//! domain → hypervisor by hypercall ([`hypercall`]).

pub mod frame;
pub mod hypercall;
pub mod succession;
pub mod topology;
pub mod transfer;
pub mod wire;
