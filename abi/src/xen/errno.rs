//! Xen's error codes (`errno.h`): what a hypercall returns, negated, in RAX.

macro_rules! errno {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// An error that Xen's interface can return.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        // As wide as RAX, so that a `HypercallResult` comes back in registers.
        #[repr(i64)]
        #[allow(clippy::upper_case_acronyms, reason = "these are the names in errno.h")]
        pub enum Errno { $($(#[$doc])* $name = $code,)* }

        impl Errno {
            /// The value a hypercall leaves in RAX.
            pub const fn as_rax(self) -> u64 {
                -(self as i64) as u64
            }

            /// The error behind a hypercall's RAX; `None` where it tells of success or of a code not listed here.
            pub const fn from_rax(rax: u64) -> Option<Self> {
                match (rax as i64).wrapping_neg() { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

errno! {
    /// Operation not permitted.
    EPERM = 1;
    /// No such entry.
    ENOENT = 2;
    /// No such domain, vCPU or process.
    ESRCH = 3;
    /// I/O error.
    EIO = 5;
    /// Not the domain's own page.
    ENXIO = 6;
    /// Argument list too long.
    E2BIG = 7;
    /// Busy now: nothing was done, the same call may be made again.
    EAGAIN = 11;
    /// Out of memory.
    ENOMEM = 12;
    /// Not allowed for this caller.
    EACCES = 13;
    /// A pointer that leads nowhere.
    EFAULT = 14;
    /// In use.
    EBUSY = 16;
    /// Exists already.
    EEXIST = 17;
    /// The page is somewhere else.
    EXDEV = 18;
    /// No such device.
    ENODEV = 19;
    /// Invalid argument.
    EINVAL = 22;
    /// No space left.
    ENOSPC = 28;
    /// Outside of what the call can count.
    EDOM = 33;
    /// Out of range.
    ERANGE = 34;
    /// No such function.
    ENOSYS = 38;
    /// There is no such data.
    ENODATA = 61;
    /// The time is over.
    ETIME = 62;
    /// Too large to be counted.
    EOVERFLOW = 75;
    /// A continuation that does not belong to its call.
    EILSEQ = 84;
    /// Inside a hypervisor alone: the call is to be made again, with the registers as they are now. No guest sees it.
    ERESTART = 85;
    /// Not supported.
    EOPNOTSUPP = 95;
    /// The caller's buffer is too small.
    ENOBUFS = 105;
}

/// What a hypercall's handler returns; the error becomes the negative value in RAX.
pub type HypercallResult = Result<u64, Errno>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rax_round_trip() {
        assert_eq!(Errno::ENOSYS.as_rax(), (-38i64) as u64);
        assert_eq!(Errno::from_rax(Errno::EFAULT.as_rax()), Some(Errno::EFAULT));
        assert_eq!(Errno::from_rax(4 << 16), None);
    }
}
