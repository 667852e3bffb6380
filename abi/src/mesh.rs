//! The mesh: where a guest finds the channels to its peers.
//!
//! Domain 0 owns the memory of all mesh channels and shares it with the two guests of each pair, so that a peer's
//! death leaves no hole in the survivor's memory. A guest learns its place from the [`MeshPage`], which lies at a
//! fixed guest-physical address; each pair of slots has a window behind it: a page of messages per direction, and
//! [`PAGES`] that change hands.
//!
//! A slot is a place in the mesh and outlives its domain: a domain that is destroyed and created again takes the
//! same slot with a new domain id. Domain 0 is slot 0, and the channel with it carries membership ([`MeshMessage`]).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::{GuestPhys, PAGE_SIZE};
use crate::control::topology::MeshPlace;

/// The most slots a mesh has: one a core, domain 0 included.
pub const MAX_SLOTS: usize = 32;

/// Where a guest finds its [`MeshPage`]. Above all guest memory, below the local APIC's page.
pub const MESH_BASE: GuestPhys = GuestPhys::new(0xf000_0000);

/// `MeshPage::magic` of a page that domain 0 has filled.
pub const MESH_MAGIC: u32 = u32::from_le_bytes(*b"MESH");

/// Pages of a pair that change hands ([`kind::PAGE`]). At first each side has half of them: the lower slot the first.
pub const PAGES: usize = 8;

/// The page the window to `slot` starts with.
///
/// Its first page carries messages from the lower slot to the higher one, its second the way back; behind them are the
/// pair's [`PAGES`].
pub const fn window(slot: usize) -> GuestPhys {
    GuestPhys::new(MESH_BASE.as_u64() + PAGE_SIZE + slot as u64 * (2 + PAGES as u64) * PAGE_SIZE)
}

/// What domain 0 tells a guest about one peer at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PeerInfo {
    /// The peer's domain id; `0xffff` where the slot is empty.
    pub domain: u16,
    /// Zero.
    pub reserved: u16,
    /// Our own event channel to that peer: unbound, waiting for the peer to bind.
    pub port: u32,
}

/// The page at [`MESH_BASE`], written by domain 0 before the guest starts and not after.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MeshPage {
    /// [`MESH_MAGIC`].
    pub magic: u32,
    /// The slot of the guest that reads this.
    pub own_slot: u32,
    /// Slots in use by this machine, empty ones included.
    pub slots: u32,
    /// Guests that it will be told of later, when they have let go of who was in its slot before.
    pub strangers: u32,
    /// The peers, by slot; the own slot's entry holds the own domain id and no port.
    pub peers: [PeerInfo; MAX_SLOTS],
    /// Where each slot's core is in the machine.
    pub places: [MeshPlace; MAX_SLOTS],
}

const _: () = assert!(core::mem::size_of::<MeshPage>() <= PAGE_SIZE as usize);

/// What a mesh message is about: the first of its seven 64-bit words. The other six are the kind's own.
///
/// Words, because a message is one cache line of eight, the last of which is the channel's.
pub mod kind {
    /// From domain 0: the peer in slot `word 1` has domain id `word 2`, and waits at its port `word 3`: bind, then greet.
    /// Sent to guests that run when a peer is created.
    pub const PEER_UP: u64 = 1;
    /// From domain 0: the peer in slot `word 1` is gone; stop using its channel and answer `PEER_DOWN_ACK`.
    pub const PEER_DOWN: u64 = 2;
    /// To domain 0: `word 1` = the slot whose channel is no longer used here.
    pub const PEER_DOWN_ACK: u64 = 3;
    /// First message on a fresh channel, from the older side to the newer: `word 1` = own slot.
    pub const GREET: u64 = 4;
    /// To domain 0: `word 1` = mesh messages received so far, `word 2` = sent, `word 3` = lost or out of order (0),
    /// `word 4` = peers dropped because they broke the rules of the ring; what those sent does not count in `word 3`.
    pub const REPORT: u64 = 5;
    /// From a peer: please answer. `word 1` = its sequence number, counted per channel from 0.
    pub const PING: u64 = 6;
    /// The answer, same number.
    pub const PONG: u64 = 7;
    /// A token that goes round the ring of slots: `word 1` = lap, `word 2` = hops so far,
    /// `word 3` = its own number, by which the one who began the lap tells it from a stale one.
    pub const TOKEN: u64 = 8;
    /// From domain 0: the peer in slot `word 1` has domain id `word 2`, and will bind to the reader's own port `word 3`
    /// and greet, as the peers in the mesh page do. Sent to a newcomer when an older guest has answered late for the
    /// slot's former owner; the older one gets `PEER_UP`.
    pub const PEER_AWAIT: u64 = 9;
    /// From domain 0: measure what a message costs to each peer. To domain 0: `word 1` = a peer's slot, `word 2` = ticks
    /// from a question to its answer, halved, the median of many; slot [`MEASURED_ALL`] is the last.
    pub const MEASURE: u64 = 10;
    /// From a peer that measures: please answer. `word 1` = its number.
    pub const PROBE: u64 = 11;
    /// The answer, same number.
    pub const PROBED: u64 = 12;
    /// `word 1` of the last [`MEASURE`].
    pub const MEASURED_ALL: u64 = u64::MAX;
    /// Part of what one monitor says to another: this in the low half of `word 0`, in the high half how many bytes are
    /// left, this line's included; the next of them in the other words.
    pub const MONITOR: u64 = 16;
    /// A line of a channel between two programs: this in the low half of `word 0`, in the high half the reader's number
    /// of the channel; the other words are the programs' own.
    pub const CHANNEL: u64 = 17;
    /// From domain 0: please tell the accounts of your tasks. To domain 0: `word 1` = how many [`ACCOUNT`]s follow.
    pub const ACCOUNTS: u64 = 18;
    /// To domain 0, one account: this in the low half of `word 0`; in the high half the account's number, a task's or from
    /// [`FIRST_CORE`](super::FIRST_CORE) on a core's. `word 1` = its name, at most 8 bytes; `word 2` = ticks it worked, `word 3` = ticks it
    /// paid, `word 4` = polls, `word 5` = messages sent, `word 6` = messages received.
    pub const ACCOUNT: u64 = 19;
    /// A page changes hands: its reader has it from now on. As [`CHANNEL`], but `word 1` = the page's number among the
    /// pair's, and five words are the programs' own.
    pub const PAGE: u64 = 20;
    /// From here on a program's own kinds.
    pub const PROGRAM: u64 = 64;
}

/// The first account that is no task's, but that of all tasks of a core; the core's number comes on top.
pub const FIRST_CORE: u64 = 64;

/// The most accounts that a guest tells.
pub const MAX_ACCOUNTS: usize = 64;

/// Words in a message that its sender fills.
pub const MESSAGE_WORDS: usize = 7;
