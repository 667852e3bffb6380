//! The sentences of refusal: what is wrong, and what a person can do about it.

use alloc::{format, string::String};

use abi::control::wire::Refusal;
use abi::xen::errno::Errno;

/// A refusal of these two sentences.
pub fn refuse(what: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal { what: what.into(), remedy: remedy.into() }
}

/// The hypervisor answered `call` with an error.
pub fn hypercall_failed(call: &str, error: Errno) -> Refusal {
    let (meaning, remedy) = match error {
        Errno::ENOMEM => ("there is no memory left", "destroy a guest, or give this one less memory"),
        Errno::EBUSY => ("it is in use", "choose another core, or destroy the guest that has this one"),
        Errno::ENODEV => ("there is no such core", "see `atoll info` for the cores there are"),
        Errno::ESRCH => ("the domain is gone", "see `atoll list` for the domains there are"),
        Errno::EPERM => ("it is not allowed", "the serial log names the domain that runs as control domain"),
        Errno::ENOSPC => ("all event channels are in use", "destroy a guest"),
        Errno::EAGAIN => ("the hypervisor was busy", "try again"),
        _ => ("the hypervisor refused it", "the serial log may say more (`atoll dmesg`)"),
    };
    refuse(format!("{call}: {meaning} ({error:?})"), remedy)
}

/// No guest has this name.
pub fn no_such_guest(name: &str) -> Refusal {
    refuse(
        format!("there is no guest named `{}`", printable(name)),
        "see `atoll list` for the guests there are",
    )
}

/// A stranger's text, fit for a sentence: short, and of printable ASCII.
pub fn printable(text: &str) -> String {
    const MOST: usize = 48;
    let mut shown: String =
        text.chars().take(MOST).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}
