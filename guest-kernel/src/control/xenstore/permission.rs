//! Who may see and change a node: `n0`, `r5`, ... The first names the owner and what everybody else may do; the others
//! say it for one domain each.

use abi::xen::DomId;
use alloc::string::String;
use alloc::{format, vec::Vec};

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// See its value, children and permissions.
    pub read: bool,
    /// Change it, and make and remove children.
    pub write: bool,
    /// Change its permissions too.
    pub owner: bool,
}

impl Access {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, owner: true };
    /// To see.
    pub const READ: Self = Self { read: true, write: false, owner: false };
    /// To change.
    pub const WRITE: Self = Self { read: false, write: true, owner: false };
    /// To change, as the owner.
    pub const OWN: Self = Self { read: false, write: true, owner: true };

    /// Whether all that is `needed` is allowed.
    pub fn has(self, needed: Self) -> bool {
        (self.read || !needed.read) && (self.write || !needed.write) && (self.owner || !needed.owner)
    }

    /// Whether any of what is `needed` is allowed.
    pub fn has_some(self, needed: Self) -> bool {
        self.read && needed.read || self.write && needed.write || self.owner && needed.owner
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// For whom.
    pub domain: DomId,
    /// May see.
    pub read: bool,
    /// May change.
    pub write: bool,
}

impl Permission {
    /// `n`
    pub const fn none(domain: DomId) -> Self {
        Self { domain, read: false, write: false }
    }

    /// `r`
    pub const fn read(domain: DomId) -> Self {
        Self { domain, read: true, write: false }
    }

    /// As written on the wire.
    pub fn text(self) -> String {
        let letter = match (self.read, self.write) {
            (false, false) => 'n',
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
        };
        format!("{letter}{}", self.domain)
    }

    /// From the wire.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (letter, digits) = text.split_first()?;
        let (read, write) = match letter {
            b'n' => (false, false),
            b'r' => (true, false),
            b'w' => (false, true),
            b'b' => (true, true),
            _ => return None,
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(Self { domain: core::str::from_utf8(digits).ok()?.parse().ok()?, read, write })
    }

    fn access(self) -> Access {
        Access { read: self.read, write: self.write, owner: false }
    }
}

/// What these permissions allow `domain`. Domain 0 may do all.
pub fn allowed(permissions: &[Permission], domain: DomId) -> Access {
    let Some((first, others)) = permissions.split_first() else { return Access::default() };
    if domain == 0 || first.domain == domain {
        return Access::ALL;
    }
    others.iter().find(|entry| entry.domain == domain).unwrap_or(first).access()
}

/// All of them, from strings.
pub fn parse_all<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Option<Vec<Permission>> {
    texts.map(Permission::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lead_back() {
        for text in ["n0", "r5", "w65535", "b12"] {
            assert_eq!(Permission::parse(text.as_bytes()).unwrap().text(), text);
        }
        for bad in ["", "x1", "r", "r-1", "r+1", "r65536", "r1x", "1"] {
            assert_eq!(Permission::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn owner_others_and_everybody() {
        let node = parse_all([&b"r1"[..], b"n2", b"w3"].into_iter()).unwrap();
        assert_eq!(allowed(&node, 1), Access::ALL);
        assert_eq!(allowed(&node, 0), Access::ALL);
        assert!(!allowed(&node, 2).has_some(Access::READ));
        assert!(allowed(&node, 3).has(Access::WRITE) && !allowed(&node, 3).has(Access::READ));
        assert!(allowed(&node, 9).has(Access::READ) && !allowed(&node, 9).has(Access::OWN));
    }
}
