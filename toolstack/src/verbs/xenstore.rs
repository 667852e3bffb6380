//! `xenstore-ls`, `-read`, `-write`, `-rm`: domain 0's xenstore from the host, under the names of Xen's own tools.

use abi::control::wire::XenstoreNode;
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    output,
};

/// How `xenstore-ls` prints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Form {
    /// Whole paths instead of indents.
    pub full: bool,
    /// Permissions too.
    pub permissions: bool,
    /// JSON.
    pub json: bool,
}

/// Prints all below a node.
pub fn list(path: &str, form: Form) -> Result<()> {
    let nodes = super::attached()?.xenstore_list(&absolute(path))?;
    if form.json {
        output::say_json(&nodes.iter().map(in_json).collect::<Vec<_>>());
    } else {
        output::say_bytes(told(&nodes, form).as_bytes());
    }
    Ok(())
}

/// Prints the values of nodes, a line each.
pub fn read(paths: &[String], as_json: bool) -> Result<()> {
    let client = super::attached()?;
    let mut found = Vec::new();
    for path in paths {
        let path = absolute(path);
        found.push(client.xenstore_node(&path)?);
    }
    if as_json {
        output::say_json(&found.iter().map(in_json).collect::<Vec<_>>());
    } else {
        found.iter().for_each(|node| output::say(printable(&node.value)));
    }
    Ok(())
}

/// Writes nodes: a path, a value, and so on.
pub fn write(pairs: &[String]) -> Result<()> {
    if !pairs.len().is_multiple_of(2) {
        return Err(Error::new(
            format!("{} has no value", pairs.last().map_or("", String::as_str)),
            "say a path, its value, the next path, its value: atoll xenstore-write /a 1 /b 2",
        ));
    }
    let client = super::attached()?;
    for pair in pairs.chunks_exact(2) {
        client.xenstore_write(&absolute(&pair[0]), pair[1].as_bytes())?;
    }
    Ok(())
}

/// Removes nodes and all below them.
pub fn remove(paths: &[String]) -> Result<()> {
    let client = super::attached()?;
    paths.iter().try_for_each(|path| client.xenstore_remove(&absolute(path)))
}

/// A path as xenstore has it. What does not begin at the root is meant from domain 0's home, as Xen's tools mean it.
fn absolute(path: &str) -> String {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/local/domain/0/{path}") };
    if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path }
}

fn told(nodes: &[XenstoreNode], form: Form) -> String {
    let Some(top) = nodes.first().map(|node| depth(&node.path)) else { return String::new() };
    let mut text = String::new();
    for node in nodes {
        let below = depth(&node.path) - top.min(depth(&node.path));
        if below == 0 {
            continue;
        }
        let name = match form.full {
            true => node.path.clone(),
            false => format!("{}{}", " ".repeat(below - 1), node.path.rsplit('/').next().unwrap_or_default()),
        };
        text += &format!("{name} = \"{}\"", printable(&node.value));
        if form.permissions {
            text += &format!("   ({})", node.permissions.join(","));
        }
        text.push('\n');
    }
    text
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// A value as text: what is not printable is escaped.
fn printable(value: &[u8]) -> String {
    value.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

fn in_json(node: &XenstoreNode) -> Value {
    json!({ "path": node.path, "value": printable(&node.value), "permissions": node.permissions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_or_of_domain_0() {
        let told = ["/", "/a/b/", "name", "/local"].map(absolute);
        assert_eq!(told, ["/", "/a/b", "/local/domain/0/name", "/local"]);
    }

    #[test]
    fn a_tree_is_indented_or_in_full() {
        let node = |path: &str, value: &str| XenstoreNode {
            path: path.into(),
            value: value.into(),
            permissions: vec!["n0".into(), "r1".into()],
        };
        let nodes = [node("/a", ""), node("/a/b", "it's"), node("/a/b/c", "\n"), node("/a/d", "4")];
        assert_eq!(told(&nodes, Form::default()), "b = \"it's\"\n c = \"\\n\"\nd = \"4\"\n");
        let full = Form { full: true, permissions: true, json: false };
        assert!(told(&nodes, full).starts_with("/a/b = \"it's\"   (n0,r1)\n/a/b/c = "));
    }
}
