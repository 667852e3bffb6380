//! The counting.

use abi::xen::DomId;
use guest_kernel::say;

pub use abi::xen::errno::Errno as Error;

/// Who this is, and how it went so far.
pub struct Tally {
    /// This domain's number.
    pub own: DomId,
    /// Whether it is domain 0.
    pub privileged: bool,
    checks: u32,
    failed: u32,
}

/// What a call must leave in RAX.
pub type Wanted = Result<u64, Error>;

impl Tally {
    /// Nothing yet.
    pub fn new(own: DomId, privileged: bool) -> Self {
        say!("abi: domain {own}, {}", if privileged { "the control domain" } else { "not privileged" });
        Self { own, privileged, checks: 0, failed: 0 }
    }

    /// One answer, and the one that is right.
    pub fn check(&mut self, what: &str, answer: u64, wanted: Wanted) {
        let right = match wanted {
            Ok(value) => answer == value,
            Err(error) => answer == error.as_rax(),
        };
        self.note(what, answer, right, format_args!("{wanted:?}"));
    }

    /// One answer that is an error of two: versions of Xen differ, or what it was built with.
    pub fn either(&mut self, what: &str, answer: u64, wanted: [Error; 2]) {
        let right = wanted.iter().any(|error| answer == error.as_rax());
        self.note(what, answer, right, format_args!("{wanted:?}"));
    }

    /// As [`Self::check`], for what domain 0 is allowed and others are not. On domain 0 the call is not made.
    pub fn refused(&mut self, what: &str, answer: impl FnOnce() -> u64, wanted: Error) {
        if !self.privileged {
            self.check(what, answer(), Err(wanted));
        }
    }

    /// Something else that must be so.
    pub fn that(&mut self, what: &str, seen: u64, right: bool) {
        self.note(what, seen, right, format_args!("otherwise"));
    }

    /// Something that must be this.
    pub fn equal(&mut self, what: &str, seen: u64, wanted: u64) {
        self.note(what, seen, seen == wanted, format_args!("{wanted:#x}"));
    }

    fn note(&mut self, what: &str, answer: u64, right: bool, wanted: core::fmt::Arguments) {
        self.checks += 1;
        match (right, Error::from_rax(answer)) {
            (true, Some(error)) => say!("abi: {what}: {error:?}"),
            (true, None) => say!("abi: {what}: {answer:#x}"),
            (false, Some(error)) => say!("abi: FAILED {what}: {error:?}, wanted {wanted}"),
            (false, None) => say!("abi: FAILED {what}: {answer:#x}, wanted {wanted}"),
        }
        self.failed += u32::from(!right);
    }

    /// The sum.
    pub fn tell(&self) {
        say!("abi: {} checks, {} failed", self.checks, self.failed);
    }
}
