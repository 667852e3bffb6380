//! Tells domain 0 whose time it was, when it asks.

use alloc::vec::Vec;

use abi::mesh::{FIRST_CORE, MAX_ACCOUNTS, kind};
use io_rings::urpc::Message;

use super::ledger::Ledger;
use crate::kernel::Kernel;
use crate::mesh::CONTROL_SLOT;
use crate::platform::Platform;

/// Answers domain 0's question for the accounts; true if `message` was it.
pub fn accounts<P: Platform>(
    kernel: &mut Kernel<P>,
    ledger: &Ledger,
    slot: usize,
    message: &Message,
) -> bool {
    if slot != CONTROL_SLOT || message[0] != kind::ACCOUNTS {
        return false;
    }
    let mut lines = Vec::new();
    ledger.each(|account, name, sums| {
        let number = match account.core_number() {
            Some(core) => FIRST_CORE + u64::from(core),
            None => account.number(),
        };
        let mut letters = [0; 8];
        for (letter, byte) in letters.iter_mut().zip(name.bytes()) {
            *letter = byte;
        }
        let name = u64::from_le_bytes(letters);
        let head = kind::ACCOUNT | number << 32;
        lines.push([head, name, sums.worked, sums.paid, sums.polls, sums.sent, sums.received]);
    });
    lines.truncate(MAX_ACCOUNTS);
    // A domain 0 that reads so little that there is no room asks in vain, and may ask again.
    let mut sent = kernel.send(CONTROL_SLOT, &[kind::ACCOUNTS, lines.len() as u64, 0, 0, 0, 0, 0]);
    for line in &lines {
        sent = sent.and_then(|()| kernel.send(CONTROL_SLOT, line));
    }
    true
}
