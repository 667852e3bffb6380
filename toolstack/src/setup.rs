//! Installing what is missing, with the person's leave.

use std::{
    fs,
    io::{IsTerminal, Write},
    path::Path,
    process::Command,
};

use crate::{
    error::{At, Error, Result},
    host, places,
};

/// Installs the packages that these machines or verbs lack: asks first, unless `yes` says that it may.
pub fn ensure(users: &[&str], yes: bool) -> Result<()> {
    let packages = host::packages_for(users);
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if places::program("apt-get").is_none() {
        return Err(Error::new(
            format!("this host lacks {}, and is neither Debian nor Ubuntu", packages.join(", ")),
            "install the programs that `atoll doctor` names by your system's own means",
        ));
    }
    if !yes && !agreed(&packages)? {
        return Err(Error::new(format!("{} not installed", packages.join(", ")), line));
    }
    fill_lists()?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&packages);
    apt(&arguments)?;
    let left = host::packages_for(users);
    if left.is_empty() {
        Ok(())
    } else {
        Err(Error::new(
            format!("after installation there is still no {}", left.join(", ")),
            "see `atoll doctor`",
        ))
    }
}

fn agreed(packages: &[&str]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(
            format!("these packages are missing: {}", packages.join(" ")),
            "run it again with --yes to have them installed, or on a terminal to be asked",
        ));
    }
    eprint!("These packages are missing: {}\nInstall them with apt? [y/N] ", packages.join(" "));
    std::io::stderr().flush().at("writing to", "the terminal")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).at("reading from", "the terminal")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Has apt fetch its lists of packages, where it has none yet.
pub fn fill_lists() -> Result<()> {
    if lists_are_empty() { apt(&["update"]) } else { Ok(()) }
}

fn lists_are_empty() -> bool {
    let lists = fs::read_dir(Path::new("/var/lib/apt/lists"));
    lists.map_or(true, |entries| {
        !entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("Packages"))
    })
}

/// Runs apt-get as root; what it says goes to stderr.
fn apt(arguments: &[&str]) -> Result<()> {
    let (program, before): (&str, &[&str]) =
        if rustix::process::geteuid().is_root() { ("apt-get", &[]) } else { ("sudo", &["apt-get"]) };
    let status = Command::new(program)
        .args(before)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::io::stderr())
        .status()
        .at("running", program)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!("apt-get {} failed", arguments.join(" ")), "read apt's messages above"))
    }
}
