//! What the targets of wires begin with.

use abi::control::frame;
use abi::control::wire::{Request, ToControl};
use abi::xen::xs_wire::kind;

use super::Seeds;

/// Requests as the line brings them, with noise between, and messages alone: kinds by number, whichever these now are,
/// with the texts and numbers that most have.
pub fn control_wire() -> Seeds {
    let list = |id| frame::encode(&ToControl { id, request: Request::List }).unwrap_or_default();
    let line = [list(2), b"noise\0".to_vec(), list(3)].concat();
    let text = |kind| [&[7, kind, 3], &b"web"[..], &[4], b"boot", &[0x80, 0x20, 1, 2, 0]].concat();
    vec![("line", line), ("message", text(6)), ("another", text(9))]
}

/// What guest 0 or 1 asks, in transaction `within`.
fn ask(guest: u8, within: u8, kind: u32, payload: &[u8]) -> Vec<u8> {
    [&[guest, within, kind as u8, payload.len() as u8], payload].concat()
}

/// What Linux's xenbus does at its start, a transaction, and watches of one guest on another's nodes.
pub fn xenstore() -> Seeds {
    let start = [
        ask(0, 0, kind::READ, b"domid\0"),
        ask(0, 0, kind::WATCH, b"control/shutdown\0ffff\0"),
        ask(0, 0, kind::WRITE, b"control/feature-poweroff\x001"),
        ask(0, 0, kind::DIRECTORY, b"device\0"),
        ask(0, 0, kind::GET_DOMAIN_PATH, b"1\0"),
    ];
    let transaction = [
        ask(0, 0, kind::TRANSACTION_START, b"\0"),
        ask(0, 1, kind::MKDIR, b"data/a\0"),
        ask(0, 1, kind::WRITE, b"data/a/b\0value"),
        ask(0, 0, kind::WRITE, b"data/a\0other"),
        ask(0, 1, kind::TRANSACTION_END, b"T\0"),
        ask(0, 0, kind::RM, b"data\0"),
    ];
    let watches = [
        ask(1, 0, kind::WATCH, b"/local/domain/1/data\0t\0"),
        ask(0, 0, kind::SET_PERMS, b"data\0n1\0r2\0"),
        ask(0, 0, kind::WRITE, b"data/x\0y"),
        ask(1, 0, kind::READ, b"/local/domain/1/data/x\0"),
        ask(1, 0, kind::GET_PERMS, b"/local/domain/1/data\0"),
        ask(1, 0, kind::UNWATCH, b"/local/domain/1/data\0t\0"),
    ];
    vec![("start", start.concat()), ("transaction", transaction.concat()), ("watches", watches.concat())]
}
