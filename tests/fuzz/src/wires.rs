//! What comes over wires: the toolstack's line, and a guest's ring to xenstore.

mod xenstore;

use abi::control::frame::{self, Decoder};
use abi::control::wire::{Reply, Request, ToControl, ToToolstack, VERSION};
use guest_kernel::control::session::Session;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use xenstore::xenstore;

/// The control wire: bytes as the line brings them, and messages, for either end, behind a sound checksum.
pub fn control_wire(bytes: &[u8]) {
    let mut session = Session::default();
    // A seed with the version in it would be worth nothing with the next.
    let hello = frame::encode(&ToControl { id: 0, request: Request::Hello { version: VERSION } });
    for &byte in hello.iter().flatten().chain(bytes) {
        if let Some((ticket, _)) = session.receive(byte) {
            session.reply(ticket, Ok(Reply::Done));
        }
        while session.transmit().is_some() {}
    }
    assert!(session.has_begun());
    whole::<ToControl>(bytes);
    whole::<ToToolstack>(bytes);
}

/// What is a message comes over the wire as it is.
fn whole<T: DeserializeOwned + Serialize + PartialEq>(bytes: &[u8]) {
    let Ok((message, _)) = postcard::take_from_bytes::<T>(bytes) else { return };
    let Some(sent) = frame::encode(&message) else { return };
    let mut decoder = Decoder::new();
    let received: Vec<T> = sent.iter().filter_map(|&byte| decoder.push(byte)).collect();
    assert!(received == [message] && decoder.dropped() == 0);
}
