//! The requests of the wire, and their answers.

use abi::xen::DomId;
use abi::xen::xs_wire::{Error, PAYLOAD_MAX, kind};
use alloc::format;
use alloc::vec::Vec;

use super::path::{self, absolute};
use super::permission::{Access, parse_all};
use super::quota;
use super::store::Store;
use crate::xenstore::wire::{Message, strings};

/// What goes back.
#[derive(Debug, Default)]
pub struct Answer {
    /// The payload.
    pub payload: Vec<u8>,
    /// An event that follows.
    pub event: Option<Vec<u8>>,
}

impl From<Vec<u8>> for Answer {
    fn from(payload: Vec<u8>) -> Self {
        Self { payload, event: None }
    }
}

/// Does what `domain` asks for.
pub fn answer(store: &mut Store, domain: DomId, message: &Message) -> Result<Answer, Error> {
    let Message { header, payload } = message;
    let transaction = match header.kind {
        kind::WATCH | kind::UNWATCH => 0,
        kind::DIRECTORY..=kind::SET_PERMS
        | kind::IS_DOMAIN_INTRODUCED..=kind::SET_TARGET
        | kind::RESET_WATCHES
        | kind::DIRECTORY_PART
        | kind::CONTROL => header.transaction,
        _ => return Err(Error::ENOSYS),
    };
    if is_privileged(header.kind) {
        // Domain 0 calls functions for these; whoever has a ring is a guest.
        return Err(Error::EACCES);
    }
    let known = |store: &Store| {
        store.sessions.get(&domain).is_some_and(|session| session.transactions.contains_key(&transaction))
    };
    if transaction != 0 && !known(store) {
        return Err(Error::ENOENT);
    }
    let path = |special| absolute(domain, only(payload).ok_or(Error::EINVAL)?, special);
    match header.kind {
        kind::DIRECTORY => {
            let path = path(false)?;
            let node = store.work(domain, transaction, |work| work.node(&path, Access::READ))?;
            Ok(names(node.children.iter().map(|name| name.as_bytes())).into())
        }
        kind::DIRECTORY_PART => directory_part(store, domain, transaction, payload),
        kind::READ => {
            let path = path(false)?;
            let node = store.work(domain, transaction, |work| work.node(&path, Access::READ))?;
            Ok(node.value.clone().into())
        }
        kind::GET_PERMS => {
            let path = path(true)?;
            let node = store.work(domain, transaction, |work| work.node(&path, Access::READ))?;
            let texts: Vec<_> = node.permissions.iter().map(|entry| entry.text()).collect();
            Ok(names(texts.iter().map(|text| text.as_bytes())).into())
        }
        kind::WRITE => {
            let end = payload.iter().position(|byte| *byte == 0).ok_or(Error::EINVAL)?;
            let (name, value) = payload.split_at_checked(end).ok_or(Error::EINVAL)?;
            let path = absolute(domain, name, false)?;
            let value = value.get(1..).unwrap_or_default();
            store.work(domain, transaction, |work| work.write(&path, value))?;
            Ok(ok())
        }
        kind::MKDIR => {
            let path = path(false)?;
            store.work(domain, transaction, |work| work.mkdir(&path))?;
            Ok(ok())
        }
        kind::RM => {
            let path = path(false)?;
            store.work(domain, transaction, |work| work.remove(&path))?;
            Ok(ok())
        }
        kind::SET_PERMS => set_perms(store, domain, transaction, payload),
        kind::WATCH => {
            let (name, token) = two(payload)?;
            let event = store.watch(domain, name, token)?;
            Ok(Answer { event: Some(event), ..ok() })
        }
        kind::UNWATCH => {
            let (name, token) = two(payload)?;
            store.unwatch(domain, name, token)?;
            Ok(ok())
        }
        kind::TRANSACTION_START if transaction != 0 => Err(Error::EBUSY),
        kind::TRANSACTION_START => {
            let session = store.sessions.get_mut(&domain).ok_or(Error::EIO)?;
            let number = session.begin(domain)?;
            Ok(format!("{number}\0").into_bytes().into())
        }
        kind::TRANSACTION_END => {
            let commit = match only(payload) {
                Some(b"T") => true,
                Some(b"F") => false,
                _ => return Err(Error::EINVAL),
            };
            store.end(domain, transaction, commit)?;
            Ok(ok())
        }
        kind::GET_DOMAIN_PATH => {
            let number = only(payload).ok_or(Error::EINVAL)?;
            Ok(format!("{}\0", path::home(leading_number(number) as DomId)).into_bytes().into())
        }
        kind::RESET_WATCHES => {
            if let Some(session) = store.sessions.get_mut(&domain) {
                session.reset();
            }
            Ok(ok())
        }
        _ => Err(Error::ENOSYS),
    }
}

fn is_privileged(request: u32) -> bool {
    matches!(
        request,
        kind::CONTROL
            | kind::INTRODUCE
            | kind::RELEASE
            | kind::IS_DOMAIN_INTRODUCED
            | kind::RESUME
            | kind::SET_TARGET
    )
}

/// As much of the children's names, from a position in the whole list on, as a message carries: before them the node's
/// generation, behind the last of all an empty name.
fn directory_part(
    store: &mut Store,
    domain: DomId,
    transaction: u32,
    payload: &[u8],
) -> Result<Answer, Error> {
    let (name, from) = two(payload)?;
    let path = absolute(domain, name, false)?;
    let from = leading_number(from);
    let node = store.work(domain, transaction, |work| work.node(&path, Access::READ))?;
    let all = names(node.children.iter().map(|name| name.as_bytes()));
    let mut part = format!("{}\0", node.generation).into_bytes();
    let mut rest = all.get(from..).unwrap_or_default();
    while !rest.is_empty() {
        let length = rest.iter().position(|byte| *byte == 0).map_or(rest.len(), |end| end + 1);
        let (name, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if part.len() + name.len() >= PAYLOAD_MAX {
            return Ok(part.into());
        }
        part.extend_from_slice(name);
        rest = behind;
    }
    part.push(0);
    Ok(part.into())
}

fn set_perms(store: &mut Store, domain: DomId, transaction: u32, payload: &[u8]) -> Result<Answer, Error> {
    let mut texts = strings(payload);
    let name = texts.next().ok_or(Error::EINVAL)?;
    let texts: Vec<&[u8]> = texts.collect();
    if texts.is_empty() {
        return Err(Error::EINVAL);
    }
    if domain != 0 && texts.len() > quota::PERMISSIONS {
        return Err(Error::ENOSPC);
    }
    let permissions = parse_all(texts.into_iter()).ok_or(Error::EINVAL)?;
    let permissions = store.of_living(permissions).ok_or(Error::ENOENT)?;
    let path = absolute(domain, name, true)?;
    store.work(domain, transaction, |work| work.set_permissions(&path, permissions))?;
    Ok(ok())
}

fn ok() -> Answer {
    b"OK\0".to_vec().into()
}

/// The one string that the payload is.
fn only(payload: &[u8]) -> Option<&[u8]> {
    let (last, string) = payload.split_last()?;
    (*last == 0 && !string.contains(&0)).then_some(string)
}

/// The two strings that the payload holds.
fn two(payload: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut strings = strings(payload);
    match (strings.next(), strings.next(), strings.next()) {
        (Some(first), Some(second), None) => Ok((first, second)),
        _ => Err(Error::EINVAL),
    }
}

/// Each with a zero behind it.
fn names<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    names.flat_map(|name| [name, b"\0"]).flatten().copied().collect()
}

/// The number that a text begins with; 0 where it begins with none.
fn leading_number(text: &[u8]) -> usize {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0usize, |number, digit| number.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
}
