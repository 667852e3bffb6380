//! A Linux to run as a guest: Debian's kernel as it is, and busybox in an initial file system.
//!
//! Process 1 is a script that ends in a shell on the console. What Xen's guests are told through xenstore Linux does
//! by `/sbin/poweroff` and `/sbin/reboot`, which are here. `xs` reads xenstore through `/dev/xen/xenbus`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::package;
use crate::{
    cpio::{Entry, newc},
    error::{At, Result},
    places,
};

/// What the shell says on the console before its first prompt.
pub const READY: &str = "guest: ready";

/// When the first shell came, in seconds of the kernel's own clock, as a console that is [`READY`] tells it.
pub fn seconds_to_shell(console: &str) -> Option<f64> {
    let (_, said) = console.split_once(READY)?;
    let (line, _) = said.split_once('\n')?;
    line.split_once(" after ")?.1.split_once(" s")?.0.parse().ok()
}

/// Busybox under the names that are used by the scripts, and of use to whoever looks around.
const APPLETS: &[&str] = &[
    "cat",
    "cut",
    "date",
    "dd",
    "df",
    "dmesg",
    "echo",
    "free",
    "grep",
    "head",
    "hexdump",
    "hostname",
    "kill",
    "ls",
    "mkdir",
    "mount",
    "nproc",
    "od",
    "printf",
    "ps",
    "rm",
    "sed",
    "setsid",
    "cttyhack",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stty",
    "tail",
    "taskset",
    "top",
    "tr",
    "true",
    "uname",
    "uptime",
    "vi",
    "wc",
    "xxd",
];

const INIT: &str = "#!/bin/sh
export PATH=/sbin:/bin HOME=/ PS1='# '
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
# When this is, by the kernel's own clock, its log says exactly.
echo 'guest: shell' > /dev/kmsg
seconds=$(dmesg | sed -n 's/^\\[ *\\(.*\\)\\] guest: shell$/\\1/p')
echo \"guest: ready, Linux $(uname -r) with $(nproc) CPUs after $seconds s\"
stty rows 24 cols 100
# Busybox's own poweroff and reboot, which its shell prefers, tell process 1 in this way.
trap /sbin/poweroff USR2
trap /sbin/reboot TERM
# A shell that ends comes again.
while true; do setsid cttyhack sh & wait $!; done
";

/// Linux runs these two when it is asked through xenstore; typed they do the same.
const STOP: &str = "#!/bin/sh
echo \"guest: ${0##*/}\" > /dev/console
exec /bin/busybox ${0##*/} -f
";

/// The numbers are those of Xen's io/xs_wire.h: a request and its answer have a header of four words (type, request,
/// transaction, length) and a body.
const XS: &str = r#"#!/bin/sh
case $1 in
ls) type=1 ;;
read) type=2 ;;
write) type=11 ;;
rm) type=13 ;;
*) echo "xs ls|read|rm PATH, xs write PATH VALUE"; exit 2 ;;
esac
word() { printf "\\$(printf %03o $(($1 % 256)))\\$(printf %03o $(($1 / 256)))\\0\\0"; }
ask=/tmp/xs.$$ answer=/tmp/xs.$$.answer
{ word $type; word 1; word 0; word $((${#2} + 1 + ${#3})); printf '%s\0%s' "$2" "$3"; } > $ask
exec 3<> /dev/xen/xenbus || exit 1
cat $ask >&3
dd bs=8192 count=1 <&3 > $answer 2> /dev/null
kind=$(head -c 1 $answer | od -An -tu1)
tail -c +17 $answer | tr '\0' '\n'
[ $type = 2 ] && echo
rm $ask $answer
[ $kind -ne 16 ]
"#;

/// The two files that a guest is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Debian's kernel.
    pub kernel: PathBuf,
    /// The file system.
    pub ramdisk: PathBuf,
}

/// Makes them in `directory`: `vmlinuz` and `initrd.gz`.
pub fn write(directory: &Path) -> Result<Files> {
    let kernel = package::kernel_of(&package::unpacked()?)?;
    places::make(directory)?;
    let files = Files { kernel: directory.join("vmlinuz"), ramdisk: directory.join("initrd.gz") };
    fs::copy(&kernel, &files.kernel).at("copying", &kernel)?;
    package::compress(&root()?, "-9", &files.ramdisk)?;
    Ok(files)
}

fn root() -> Result<Vec<u8>> {
    let busybox = package::installed("busybox")?;
    let busybox = fs::read(&busybox).at("reading", &busybox)?;
    let mut files: Vec<Entry> =
        ["bin", "sbin", "dev", "proc", "sys", "tmp"].iter().map(|name| Entry::directory(name)).collect();
    files.push(Entry::file("bin/busybox", 0o755, &busybox));
    files.extend(APPLETS.iter().map(|applet| Entry::link(&format!("bin/{applet}"), "busybox")));
    files.push(Entry::file("sbin/poweroff", 0o755, STOP.as_bytes()));
    files.push(Entry::file("sbin/reboot", 0o755, STOP.as_bytes()));
    files.push(Entry::file("bin/xs", 0o755, XS.as_bytes()));
    files.push(Entry::file("init", 0o755, INIT.as_bytes()));
    newc(&files).at("packing", "the guest's file system")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_awaited_one() {
        assert!(INIT.contains(&format!("echo \"{READY}, ")));
    }

    #[test]
    fn the_time_of_the_first_shell_is_found() {
        let console =
            "loading\r\nguest: ready, Linux 6.1.0-49-cloud-amd64 with 1 CPUs after 1.250000 s\r\n# ";
        assert_eq!(seconds_to_shell(console), Some(1.25));
        // The line is not whole yet.
        assert_eq!(seconds_to_shell("guest: ready, Linux 6.1 with 1 CPUs after 1.2"), None);
        assert_eq!(seconds_to_shell("guest: ready, Linux 6.1 with 1 CPUs after  s\n"), None);
    }
}
