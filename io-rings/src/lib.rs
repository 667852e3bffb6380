//! The rings between the islands: everything two domains share is one of these.
//!
//! What this room does: it lays rings over shared pages and gives each end of a ring a private half that nobody
//! else can write. [`urpc`] is the channel of the mesh, where one message is one cache line; [`ring`] is Xen's
//! request and response ring, for block and network devices; [`bytes`] are Xen's console and xenstore streams.
//! [`session`] puts types over a channel, [`rpc`] calls over two. [`ready`] is the word by which tasks are woken.
//! [`hostile`] plays the peer that lies.
//!
//! What it never does: it maps no memory, sends no event, blocks nowhere, and holds no `unsafe` but one hint to the
//! processor's caches (`prefetch.rs`). A page here is a struct of atomics and nothing else, so any bytes are a valid
//! page and a peer that writes at any moment is no data race. Whoever maps the page makes the one `&'static` reference, with the one `// SAFETY:`; from there on
//! the compiler keeps the promise. Waiting and waking belong to the caller: a ring only says *whether* to notify.
//!
//! What the peer wrote is an allegation: it is loaded once, checked, and only then used. A lie that an end can
//! notice (an index that ran ahead or backwards, a sequence number nobody awaited) makes that end answer
//! [`PeerBroken`] for good. No word a peer can write makes an end loop, panic or touch memory outside its page.
//!
//! The orderings are explored by loom on small rings, the figures come from two pinned threads:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p io-rings --release --test loom
//! cargo bench -p io-rings
//! ```
//!
//! The next room is `guest-kernel`, whose mesh pairs these channels with event channels.
#![no_std]
#![deny(unsafe_code)]

use core::fmt;

pub mod bytes;
pub mod hostile;
#[allow(unsafe_code)]
mod prefetch;
pub mod ready;
pub mod ring;
pub mod rpc;
pub mod session;
mod sync;
pub mod urpc;

/// The peer wrote something that no honest peer writes. The end that says so will say nothing else any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerBroken;

impl fmt::Display for PeerBroken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the peer broke the rules of the ring")
    }
}

impl core::error::Error for PeerBroken {}
