//! The file's own shape: its keys, each value with its place in the text.

use serde::Deserialize;
use toml::Spanned;

use super::{Mistake, Source};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) machine: Machine,
    #[serde(default)]
    pub(super) guest: Vec<Guest>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machine {
    pub(super) cores: Option<Spanned<i64>>,
    pub(super) packages: Option<Spanned<i64>>,
    pub(super) max_cores: Option<Spanned<i64>>,
    pub(super) memory_mib: Option<Spanned<i64>>,
    pub(super) stop_when_done: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Guest {
    pub(super) name: Spanned<String>,
    pub(super) image: Option<Spanned<String>>,
    pub(super) kernel: Option<Spanned<String>>,
    pub(super) firmware: Option<Spanned<String>>,
    pub(super) ramdisk: Option<Spanned<String>>,
    pub(super) disk: Option<Spanned<String>>,
    pub(super) core: Option<Spanned<i64>>,
    pub(super) cores: Option<Spanned<Vec<Spanned<i64>>>>,
    pub(super) near: Option<Spanned<String>>,
    pub(super) far: Option<Spanned<String>>,
    pub(super) vcpus: Option<Spanned<i64>>,
    pub(super) memory_mib: Option<Spanned<i64>>,
    #[serde(alias = "cmdline")]
    pub(super) command_line: Option<Spanned<String>>,
    pub(super) mesh: Option<bool>,
    pub(super) virt: Option<Spanned<String>>,
    pub(super) paging: Option<Spanned<String>>,
    pub(super) assisted_apic: Option<bool>,
    #[serde(default)]
    pub(super) devices: Vec<Spanned<String>>,
    pub(super) on_poweroff: Option<Spanned<String>>,
    pub(super) on_reboot: Option<Spanned<String>>,
    pub(super) on_crash: Option<Spanned<String>>,
    pub(super) on_watchdog: Option<Spanned<String>>,
    pub(super) restart: Option<Spanned<String>>,
    pub(super) watchdog: Option<Spanned<i64>>,
}

/// Reads the text; what is no TOML, or has keys or types of its own, is a mistake.
pub(super) fn read(source: &Source) -> Result<File, Mistake> {
    toml::from_str(source.text).map_err(|error| {
        let message = error.message();
        let remedy = if message.contains("field") {
            "[machine] has cores, packages, max_cores, memory_mib, stop_when_done; each [[guest]] has name, image, kernel or firmware, ramdisk, disk, \
             core or cores, near, far, vcpus, memory_mib, command_line, mesh, virt, paging, assisted_apic, devices, \
             on_poweroff, on_reboot, on_crash, on_watchdog, restart, watchdog"
        } else if message.contains("invalid type") {
            "names, images, files, policies and command lines are \"text\"; cores, vcpus, memory and seconds are whole numbers; \
             mesh and assisted_apic are true or false"
        } else {
            "this is not TOML as it should be: see https://toml.io for the form of tables and values"
        };
        let what = message.lines().next().unwrap_or("not valid").to_owned();
        Mistake { offset: error.span().map_or(0, |span| span.start), what, remedy: remedy.to_owned() }
    })
}
