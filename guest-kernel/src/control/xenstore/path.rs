//! Paths: what a name may look like, and where it leads.

use abi::xen::DomId;
use abi::xen::xs_wire::{Error, REL_PATH_MAX};
use alloc::string::String;
use alloc::{borrow::ToOwned, format};

/// Where the domains' own nodes are.
pub const DOMAINS: &str = "/local/domain";

/// A domain's own node: what paths that do not begin with `/` are relative to.
pub fn home(domain: DomId) -> String {
    format!("{DOMAINS}/{domain}")
}

/// The whole path of what `domain` calls `name`. Names that begin with `@` are no paths, and pass only where `special`.
pub fn absolute(domain: DomId, name: &[u8], special: bool) -> Result<String, Error> {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(byte);
    let name = core::str::from_utf8(name).map_err(|_| Error::EINVAL)?;
    if !name.bytes().all(|byte| legal(&byte)) || (name.starts_with('@') && !special) {
        return Err(Error::EINVAL);
    }
    let path = match name.as_bytes().first() {
        Some(b'/' | b'@') => name.to_owned(),
        _ => format!("{}/{name}", home(domain)),
    };
    let ends_badly = path.ends_with('/') && path != "/";
    if ends_badly || path.contains("//") || below_home(&path).len() > REL_PATH_MAX {
        return Err(Error::EINVAL);
    }
    Ok(path)
}

/// The part of a path whose length counts: behind `/local/domain/N/`.
fn below_home(path: &str) -> &str {
    let tail = path.strip_prefix(DOMAINS).and_then(|rest| rest.strip_prefix('/'));
    match tail.and_then(|tail| tail.split_once('/')) {
        Some((number, below)) if number.parse::<DomId>().is_ok() => below,
        _ => path,
    }
}

/// The node above; the root is above itself.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(slash) => path.get(..slash).unwrap_or("/"),
    }
}

/// The last name of a path.
pub fn leaf(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The path of a child.
pub fn child(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

/// Whether `path` is `above` or lies below it.
pub fn is_at_or_below(path: &str, above: &str) -> bool {
    above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_where_they_lead() {
        let of = |name: &str| absolute(5, name.as_bytes(), false);
        assert_eq!(of("/"), Ok("/".into()));
        assert_eq!(of("/a/b-c_d@e"), Ok("/a/b-c_d@e".into()));
        assert_eq!(of("data/x"), Ok("/local/domain/5/data/x".into()));
        for bad in ["", "/a/", "//", "/a//b", "a//b", "@introduceDomain", "/a b", "/a\0", "/ä", "a/"] {
            assert_eq!(of(bad), Err(Error::EINVAL), "{bad:?}");
        }
        assert_eq!(absolute(5, b"@releaseDomain", true), Ok("@releaseDomain".into()));
        assert_eq!(absolute(5, &[0xff], true), Err(Error::EINVAL));
    }

    #[test]
    fn only_what_is_below_a_domain_counts_for_length() {
        let name = "x".repeat(REL_PATH_MAX);
        assert!(absolute(1, name.as_bytes(), false).is_ok());
        assert!(absolute(1, format!("{}/{name}", home(77)).as_bytes(), false).is_ok());
        assert_eq!(absolute(1, format!("{name}x").as_bytes(), false), Err(Error::EINVAL));
        assert_eq!(absolute(1, format!("/{name}").as_bytes(), false), Err(Error::EINVAL));
    }

    #[test]
    fn up_and_down() {
        assert_eq!((parent("/a/b"), parent("/a"), parent("/"), parent("@x")), ("/a", "/", "/", "/"));
        assert_eq!((leaf("/a/b"), leaf("/a"), leaf("/")), ("b", "a", ""));
        assert_eq!((child("/", "a"), child("/a", "b")), ("/a".into(), "/a/b".into()));
        assert!(is_at_or_below("/a/b", "/a") && is_at_or_below("/a", "/a") && is_at_or_below("/a", "/"));
        assert!(!is_at_or_below("/ab", "/a") && !is_at_or_below("/a", "/a/b"));
    }
}
