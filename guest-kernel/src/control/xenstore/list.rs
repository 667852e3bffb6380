//! The nodes in the order a person reads them: each before those below it, children by name.

use abi::control::wire::XenstoreNode;
use abi::xen::xs_wire::Error;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::path::child;
use super::tree::Tree;

/// Bytes of nodes in one answer, at least one of them.
const ROOM: usize = 6 * 1024;

/// The nodes at and below `path`, from behind `after` on, as many as an answer holds; and whether there are more.
pub fn list(tree: &Tree, path: &str, after: Option<&str>) -> Result<(Vec<XenstoreNode>, bool), Error> {
    tree.get(path).ok_or(Error::ENOENT)?;
    let mut nodes = Vec::new();
    let mut used = 0;
    let mut open = alloc::vec![alloc::string::String::from(path)];
    while let Some(path) = open.pop() {
        let Some(node) = tree.get(&path) else { continue };
        open.extend(node.children.iter().rev().map(|name| child(&path, name)));
        if after.is_some_and(|after| order(&path, after) != Ordering::Greater) {
            continue;
        }
        let node = XenstoreNode {
            value: node.value.clone(),
            permissions: node.permissions.iter().map(|entry| entry.text()).collect(),
            path,
        };
        used += node.path.len() + node.value.len() + 8 * node.permissions.len();
        if used > ROOM && !nodes.is_empty() {
            return Ok((nodes, true));
        }
        nodes.push(node);
    }
    Ok((nodes, false))
}

/// Which of two paths comes first: by their names, one after the other, so that `/a/b` comes before `/a-b`.
fn order(one: &str, other: &str) -> Ordering {
    parts(one).cmp(parts(other))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}
