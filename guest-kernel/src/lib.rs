//! The kernel that lives alone on one core.
//!
//! It is a guest: by PVH it is started, by Xen's hypercalls it talks to the hypervisor, and everything else it does by
//! itself, because the core is its own: page tables, interrupts, timer. It never shares state with the kernels on the
//! other cores; with them it exchanges messages. It never runs two things at once either: one stack, one loop.
//!
//! A walk through it: [`main!`] makes the entry that `boot` calls; [`platform::atoll::start`] brings the core up;
//! [`kernel::Kernel::run`] is the loop; [`tasks`] are what a core's driver runs in it; [`mesh`] is who else is there and
//! what they say, over the channels of `io_rings`; [`knowledge`] is where everybody is; [`monitor`] is what the kernels agree
//! on, by [`agreement`], and what they [replicate](replica); [`handover`] is how one takes another's place; [`events`] is
//! Xen's shared page; [`paging`] and [`memory_map`] are arithmetic. The
//! programs are in `src/bin`, with the parts of them that a host test can reach in [`programs`].
//!
//! All but [`platform::atoll`] is safe code over the trait [`platform::Platform`], and runs in host tests.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "hosted"))]
extern crate std;

pub mod agreement;
pub mod control;
pub mod events;
pub mod grants;
pub mod handover;
pub mod kernel;
pub mod knowledge;
pub mod labs;
pub mod memory_map;
pub mod mesh;
pub mod monitor;
pub mod paging;
pub mod platform;
pub mod programs;
pub mod replica;
pub mod tasks;
pub mod xenbus;
pub mod xenstore;

/// Makes `$run`, a `fn(Started) -> !`, the image's main function.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        /// What `boot` calls, in long mode, on the boot stack.
        #[unsafe(no_mangle)]
        extern "C" fn atoll_main(magic: u32, info: u32) -> ! {
            // SAFETY: `boot` passes on what the loader gave, and calls this once, before anything else runs.
            $run(unsafe { $crate::platform::atoll::start(magic, info) })
        }
    };
}

/// Prints a line to the kernel's console.
#[cfg(feature = "bare")]
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::platform::atoll::console::Printer::line(format_args!($($argument)*))
    };
}
