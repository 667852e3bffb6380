//! VMX and nothing else.
//!
//! What the processor offers ([`capabilities`]), how a VMCS is filled ([`field`], `vmcs`), the one way into a guest
//! and back (`crossing`), and what came back ([`exit`]). A processor may only be asked for what its capability MSRs
//! allow, so every control goes through [`capabilities::Capabilities`].
//!
//! Nothing here knows of domains or hypercalls, and nothing here decides: the next room is `hypervisor`, whose core
//! loop calls `crossing::enter` and acts on the exit that it returns.
//!
//! Sections are cited by title from the Intel SDM, volume 3C (order number 326019).
#![no_std]

#[cfg(test)]
extern crate std;

pub mod capabilities;
pub mod controls;
pub mod crossing;
pub mod exit;
pub mod field;
pub mod injection;
pub mod vmcs;
