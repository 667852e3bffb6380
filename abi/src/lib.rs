//! The words that all sides of Atoll share, each fact in one place.
//!
//! Hypervisor, guest kernels, toolstack and tests import from here whatever two of them must agree on: address
//! kinds, Xen's guest ABI, Atoll's control hypercalls, the wire between toolstack and control domain, the mesh
//! layout, and how a run ends. There is no mechanism here and no `unsafe`: what these words *do* is in `vmx`, `ept`
//! and `hypervisor` on one side and in `guest-kernel` on the other.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
pub mod archive;
pub mod control;
pub mod exit_code;
pub mod mesh;
pub mod xen;
