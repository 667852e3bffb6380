//! Xenstore's wire (`io/xs_wire.h`): each message is a [`Header`] and that many bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct xsd_sockmsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// What it is: a [`kind`].
    pub kind: u32,
    /// The asker's number for it, which comes back in the answer; 0 in what comes unasked.
    pub request: u32,
    /// The transaction, or 0.
    pub transaction: u32,
    /// Bytes that follow, at most [`PAYLOAD_MAX`].
    pub length: u32,
}

/// Bytes of a [`Header`].
pub const HEADER_BYTES: usize = 16;
const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// The most bytes behind a header (`XENSTORE_PAYLOAD_MAX`).
pub const PAYLOAD_MAX: usize = 4096;
/// The longest path from the root (`XENSTORE_ABS_PATH_MAX`).
pub const ABS_PATH_MAX: usize = 3072;
/// The longest path below a domain's own (`XENSTORE_REL_PATH_MAX`).
pub const REL_PATH_MAX: usize = 2048;

/// `enum xsd_sockmsg_type`.
pub mod kind {
    /// Orders to the server itself (`XS_CONTROL`, once `XS_DEBUG`).
    pub const CONTROL: u32 = 0;
    /// path → names of its children
    pub const DIRECTORY: u32 = 1;
    /// path → value
    pub const READ: u32 = 2;
    /// path → permissions
    pub const GET_PERMS: u32 = 3;
    /// path, token → OK, and an event at once
    pub const WATCH: u32 = 4;
    /// path, token → OK
    pub const UNWATCH: u32 = 5;
    /// → number of the transaction
    pub const TRANSACTION_START: u32 = 6;
    /// `T` or `F` → OK
    pub const TRANSACTION_END: u32 = 7;
    /// domain, frame, port → OK
    pub const INTRODUCE: u32 = 8;
    /// domain → OK
    pub const RELEASE: u32 = 9;
    /// domain → path
    pub const GET_DOMAIN_PATH: u32 = 10;
    /// path, value → OK
    pub const WRITE: u32 = 11;
    /// path → OK
    pub const MKDIR: u32 = 12;
    /// path → OK
    pub const RM: u32 = 13;
    /// path, permissions → OK
    pub const SET_PERMS: u32 = 14;
    /// Unasked: path, token
    pub const WATCH_EVENT: u32 = 15;
    /// An answer: the error's name
    pub const ERROR: u32 = 16;
    /// domain → `T` or `F`
    pub const IS_DOMAIN_INTRODUCED: u32 = 17;
    /// domain → OK
    pub const RESUME: u32 = 18;
    /// domain, its target → OK
    pub const SET_TARGET: u32 = 19;
    /// No longer served.
    pub const RESTRICT: u32 = 20;
    /// → OK
    pub const RESET_WATCHES: u32 = 21;
    /// path, offset → generation, names of children from there on
    pub const DIRECTORY_PART: u32 = 22;
}

/// Bits of the page's `server_features`.
pub mod feature {
    /// A guest may ask for a fresh ring (`XENSTORE_SERVER_FEATURE_RECONNECTION`).
    pub const RECONNECTION: u32 = 1;
    /// The server says why it serves no more (`XENSTORE_SERVER_FEATURE_ERROR`).
    pub const ERROR: u32 = 2;
}

/// Values of the page's `connection`.
pub mod connection {
    /// As it should be (`XENSTORE_CONNECTED`).
    pub const CONNECTED: u32 = 0;
    /// The guest asks for a fresh ring (`XENSTORE_RECONNECT`).
    pub const RECONNECT: u32 = 1;
}

/// Values of the page's `error`.
pub mod fault {
    /// None (`XENSTORE_ERROR_NONE`).
    pub const NONE: u32 = 0;
    /// The event channel does not work (`XENSTORE_ERROR_COMM`).
    pub const COMM: u32 = 1;
    /// An index makes no sense (`XENSTORE_ERROR_RINGIDX`).
    pub const RINGIDX: u32 = 2;
    /// A message is too long (`XENSTORE_ERROR_PROTO`).
    pub const PROTO: u32 = 3;
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// The errors that the wire has names for (`xsd_errors`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::upper_case_acronyms, reason = "these are the names on the wire")]
        pub enum Error { $($(#[$doc])* $name,)* }

        impl Error {
            /// Its name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The error of this name; one that is not known counts as `EINVAL`, as everywhere.
            pub fn from_name(name: &[u8]) -> Self {
                $(if name == stringify!($name).as_bytes() { return Self::$name; })*
                Self::EINVAL
            }
        }
    };
}

errors! {
    /// Not a request that makes sense.
    EINVAL
    /// Not allowed to see or change this node.
    EACCES
    /// Exists already.
    EEXIST
    /// Not for a node with children.
    EISDIR
    /// No such node, watch or transaction.
    ENOENT
    /// The domain's memory here is used up.
    ENOMEM
    /// A quota is used up.
    ENOSPC
    /// The server failed.
    EIO
    /// Has children.
    ENOTEMPTY
    /// No such request.
    ENOSYS
    /// Cannot be written.
    EROFS
    /// In use.
    EBUSY
    /// Somebody else was faster: start the transaction anew.
    EAGAIN
    /// Connected already.
    EISCONN
    /// Too much, or too many.
    E2BIG
    /// Not for this domain to do.
    EPERM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_errors() {
        for error in [Error::EINVAL, Error::EAGAIN, Error::EPERM] {
            assert_eq!(Error::from_name(error.name().as_bytes()), error);
        }
        assert_eq!(Error::from_name(b"EWHAT"), Error::EINVAL);
    }
}
