//! The atomics that all pages are made of: core's, or loom's when a model explores every ordering.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Writes the constructor `new` of a page twice, because loom's atomics cannot be made in a `const`.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident() -> Self $body:block) => {
        #[cfg(not(loom))]
        $(#[$meta])*
        $visibility const fn $name() -> Self $body

        #[cfg(loom)]
        $(#[$meta])*
        $visibility fn $name() -> Self $body
    };
}

/// `$count` fresh values of `$make`: an inline constant each, or under loom a call each.
macro_rules! array_of {
    ($make:expr; $count:expr) => {{
        #[cfg(not(loom))]
        {
            [const { $make }; $count]
        }
        #[cfg(loom)]
        {
            core::array::from_fn::<_, { $count }, _>(|_| $make)
        }
    }};
}

pub(crate) use {array_of, const_unless_loom};
