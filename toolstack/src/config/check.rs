//! What a description must keep to, beyond its form. All mistakes are found, not only the first.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use abi::{
    control::{
        hypercall::MAX_VCPUS,
        wire::{DeviceConfig, GuestConfig, MachineConfig, Paging, Placement, Policy, Virt},
    },
    mesh::MAX_SLOTS,
};
use toml::Spanned;

use super::{
    Config, DEFAULT_CORES, DEFAULT_GUEST_MIB, DEFAULT_KERNEL_MIB, DEFAULT_MEMORY_MIB, Mistake, RESERVED_MIB,
    Surroundings, device,
    file::{File, Guest},
    kernel::{file_problem, firmware_problem, image_name, kernel_problem},
};

/// The least memory a guest kernel starts in.
const MIN_GUEST_MIB: i64 = 4;
/// The most seconds that a watchdog may give.
const MAX_WATCHDOG_SECONDS: i64 = 3600;
/// The most memory a machine may be described with.
const MAX_MEMORY_MIB: i64 = 64 * 1024;
/// The longest name.
const MAX_NAME: usize = 32;
/// The longest command line.
const MAX_COMMAND_LINE: usize = 1024;

pub(super) fn check(file: File, near: &Path, surroundings: &Surroundings) -> Result<Config, Vec<Mistake>> {
    let mut checker = Checker {
        mistakes: Vec::new(),
        names: HashMap::new(),
        cores: HashMap::new(),
        files: BTreeMap::new(),
        near,
        surroundings,
    };
    let (cores, memory_mib) = match surroundings.running {
        Some(running) => running,
        None => (
            checker.number(&file.machine.cores, 1..=MAX_SLOTS as i64, DEFAULT_CORES, "cores"),
            checker.number(
                &file.machine.memory_mib,
                i64::from(RESERVED_MIB)..=MAX_MEMORY_MIB,
                DEFAULT_MEMORY_MIB,
                "memory_mib",
            ),
        ),
    };
    let max_cores = file.machine.max_cores.as_ref().map(|_| {
        checker.number(&file.machine.max_cores, i64::from(cores)..=MAX_SLOTS as i64, cores, "max_cores")
    });
    let packages = file.machine.packages.as_ref().and_then(|place| {
        let packages =
            u32::try_from(*place.get_ref()).ok().filter(|&packages| are_alike(max_cores.unwrap_or(cores), packages));
        if packages.is_none() {
            let cores = max_cores.unwrap_or(cores);
            let what = format!("{cores} cores are not in {} packages of 1, 2, 4 or 8 each", place.get_ref());
            checker.mistake(
                place,
                what,
                "choose another number, or leave it out: a processor tells its package by bits of its APIC id",
            );
        }
        packages
    });
    let mut guests = Vec::new();
    let mut left = i64::from(memory_mib.saturating_sub(RESERVED_MIB));
    for guest in &file.guest {
        left = checker.memory(guest, left, memory_mib);
        guests.push(checker.guest(guest, cores));
    }
    let needed: u32 = guests.iter().map(|guest| guest.vcpus).sum();
    let mut idle = cores.saturating_sub(1);
    let too_many = file.guest.iter().zip(&guests).find(|(_, guest)| match idle.checked_sub(guest.vcpus) {
        Some(left) => {
            idle = left;
            false
        }
        None => true,
    });
    if let Some((first_too_many, _)) = too_many {
        checker.mistake(
            &first_too_many.name,
            format!("{needed} virtual CPUs do not fit on {cores} cores, of which domain 0 has one"),
            "give the machine more cores, or leave guests out",
        );
    }
    if checker.mistakes.is_empty() {
        let stop_when_done = file.machine.stop_when_done.unwrap_or(false);
        let machine = MachineConfig { guests, stop_when_done };
        Ok(Config { cores, packages, max_cores, memory_mib, machine, files: checker.files })
    } else {
        checker.mistakes.sort_by_key(|mistake| mistake.offset);
        Err(checker.mistakes)
    }
}

struct Checker<'around> {
    mistakes: Vec<Mistake>,
    names: HashMap<String, usize>,
    cores: HashMap<u32, String>,
    files: BTreeMap<String, PathBuf>,
    /// Where files are looked for.
    near: &'around Path,
    surroundings: &'around Surroundings,
}

/// Memory of a guest that names none.
fn usual_mib(guest: &Guest) -> u32 {
    if guest.kernel.is_some() || guest.firmware.is_some() { DEFAULT_KERNEL_MIB } else { DEFAULT_GUEST_MIB }
}

impl Checker<'_> {
    fn mistake<T>(&mut self, place: &Spanned<T>, what: String, remedy: impl Into<String>) {
        self.mistakes.push(Mistake { offset: place.span().start, what, remedy: remedy.into() });
    }

    fn number(
        &mut self,
        value: &Option<Spanned<i64>>,
        allowed: std::ops::RangeInclusive<i64>,
        default: u32,
        key: &str,
    ) -> u32 {
        let Some(value) = value else { return default };
        match u32::try_from(*value.get_ref()) {
            Ok(number) if allowed.contains(value.get_ref()) => number,
            _ => {
                let (from, to) = (allowed.start(), allowed.end());
                let what = format!("{key} = {} is out of range", value.get_ref());
                self.mistake(value, what, format!("choose {key} from {from} to {to}"));
                default
            }
        }
    }

    /// Takes a guest's memory from what is left.
    fn memory(&mut self, guest: &Guest, left: i64, machine_mib: u32) -> i64 {
        let wanted = guest.memory_mib.as_ref().map_or(i64::from(usual_mib(guest)), |value| *value.get_ref());
        let after = left.saturating_sub(wanted.max(0));
        if after < 0 && left >= 0 {
            let name = guest.name.get_ref();
            let (what, remedy) = if self.surroundings.running.is_some() {
                let what = format!("guest `{name}` asks for {wanted} MiB, and {left} MiB are free");
                (what, "give it less, or destroy another guest".to_owned())
            } else {
                let remedy = "raise [machine] memory_mib or give guests less; hypervisor and domain 0 keep";
                (
                    format!(
                        "guest `{name}` asks for {wanted} MiB, and {left} MiB of the machine's {machine_mib} are left"
                    ),
                    format!("{remedy} {RESERVED_MIB} MiB"),
                )
            };
            match &guest.memory_mib {
                Some(place) => self.mistake(place, what, remedy),
                None => self.mistake(&guest.name, what, remedy),
            }
        }
        after
    }

    fn guest(&mut self, guest: &Guest, cores: u32) -> GuestConfig {
        self.name(&guest.name);
        let (image, own) = self.kernel(guest);
        let ramdisk = guest.ramdisk.as_ref().map(|place| {
            if guest.kernel.is_none() {
                let remedy = "name the kernel that it belongs to, or leave it out";
                let made_of = if guest.firmware.is_some() { "firmware" } else { "image" };
                self.mistake(place, format!("`ramdisk` goes with `kernel`, not with `{made_of}`"), remedy);
            }
            self.file(place, file_problem)
        });
        let disk = guest.disk.as_ref().map(|place| {
            let is_full =
                guest.virt.as_ref().map_or(guest.firmware.is_some(), |virt| virt.get_ref() == "full");
            if !is_full {
                let what = "only a guest with `virt = \"full\"` has a PC's disk";
                self.mistake(place, what.into(), "leave `disk` out, or name a device of another guest's");
            }
            self.file(place, file_problem)
        });
        let pinned = self.cores(guest, cores);
        let vcpus = self.vcpus(guest, &pinned, own);
        let memory_mib =
            self.number(&guest.memory_mib, MIN_GUEST_MIB..=MAX_MEMORY_MIB, usual_mib(guest), "memory_mib");
        let command_line =
            guest.command_line.as_ref().map(|line| self.command_line(line)).unwrap_or_default();
        let virt = self.virt(guest, own);
        let paging = self.paging(guest, virt, vcpus);
        let (reboots, ends) = self.restart(&guest.restart);
        let watchdog = self.watchdog(guest, guest.mesh.unwrap_or(own));
        let devices = guest.devices.iter().filter_map(|device| self.device(device, guest)).collect();
        GuestConfig {
            name: guest.name.get_ref().clone(),
            image,
            firmware: guest.firmware.is_some(),
            ramdisk,
            disk,
            placement: self.placement(guest, &pinned),
            cores: pinned,
            vcpus,
            memory_mib,
            command_line,
            mesh: guest.mesh.unwrap_or(own),
            virt,
            paging,
            emulated_apic: guest.assisted_apic == Some(false),
            devices,
            on_poweroff: self.policy(&guest.on_poweroff, Policy::Preserve),
            on_reboot: self.policy(&guest.on_reboot, reboots),
            on_crash: self.policy(&guest.on_crash, ends),
            on_watchdog: self.policy(&guest.on_watchdog, ends),
            watchdog,
        }
    }

    /// The image that a guest is made of, and whether that is one of Atoll's own.
    fn kernel(&mut self, guest: &Guest) -> (String, bool) {
        if let Some(firmware) = &guest.firmware {
            if guest.image.is_some() || guest.kernel.is_some() {
                let remedy = "firmware finds what to start on the disk: leave `image` and `kernel` out";
                self.mistake(
                    firmware,
                    "this guest has `firmware` and something else to start".into(),
                    remedy,
                );
            }
            return (self.file(firmware, firmware_problem), false);
        }
        match (&guest.image, &guest.kernel) {
            (Some(image), None) => {
                self.image(image);
                (image.get_ref().clone(), self.surroundings.images.contains(image.get_ref()))
            }
            (None, Some(kernel)) => {
                let is_full = guest.virt.as_ref().is_some_and(|virt| virt.get_ref() == "full");
                (self.file(kernel, |path| kernel_problem(path, is_full)), false)
            }
            (Some(_), Some(kernel)) => {
                let remedy = "`image` is one of Atoll's own, `kernel` a file: leave one out";
                self.mistake(kernel, "this guest has an `image` and a `kernel`".into(), remedy);
                (String::new(), false)
            }
            (None, None) => {
                let what =
                    format!("guest `{}` has neither `image`, `kernel` nor `firmware`", guest.name.get_ref());
                self.mistake(&guest.name, what, "image = \"hello\", or kernel = \"FILE\"");
                (String::new(), false)
            }
        }
    }

    /// The image's name of a file that the description names.
    fn file(
        &mut self,
        place: &Spanned<String>,
        problem: impl Fn(&Path) -> Option<(String, &'static str)>,
    ) -> String {
        let path = self.near.join(place.get_ref());
        let name = image_name(&path);
        if let Some((what, remedy)) = problem(&path) {
            self.mistake(place, what, remedy);
        } else if self.surroundings.images.contains(&name) {
            let what = format!("`{name}` is the name of an image of Atoll's own");
            self.mistake(place, what, "give the file another name");
        } else if self.files.insert(name.clone(), path.clone()).is_some_and(|other| other != path) {
            let what = format!("two files have the name `{name}`, and an image's name is its file's");
            self.mistake(place, what, "give one of them another name");
        }
        name
    }

    fn vcpus(&mut self, guest: &Guest, pinned: &[u32], own: bool) -> u32 {
        let pinned = u32::try_from(pinned.len()).unwrap_or(u32::MAX);
        let vcpus = self.number(&guest.vcpus, 1..=MAX_VCPUS as i64, pinned.max(1), "vcpus");
        if let Some(place) = &guest.vcpus
            && pinned != 0
            && pinned != vcpus
        {
            let what =
                format!("vcpus = {vcpus}, and the guest is pinned to {pinned}: a virtual CPU has one core");
            self.mistake(place, what, "name as many cores as virtual CPUs, or leave one of the two out");
        }
        if own && vcpus > 1 {
            let what = format!("guest `{}` asks for {vcpus} virtual CPUs", guest.name.get_ref());
            let remedy = "Atoll's own guest kernels have one each: start several guests";
            self.mistake(&guest.name, what, remedy);
        }
        vcpus
    }

    fn virt(&mut self, guest: &Guest, own: bool) -> Virt {
        let is_member = guest.mesh.unwrap_or(own);
        let Some(place) = &guest.virt else {
            return match &guest.firmware {
                Some(firmware) if is_member => {
                    let what = format!("guest `{}` is a member of the mesh", guest.name.get_ref());
                    self.mistake(firmware, what, "its members start no firmware: leave `mesh` out");
                    Virt::Para
                }
                Some(_) => Virt::Full,
                None => Virt::Para,
            };
        };
        match place.get_ref().as_str() {
            "para" if guest.firmware.is_some() => {
                let what = "firmware wants a PC, which a para guest does not have";
                self.mistake(place, what.into(), "leave `virt` out, or virt = \"full\"");
                Virt::Para
            }
            "para" => Virt::Para,
            "full" if !is_member => Virt::Full,
            "full" => {
                let what = format!("guest `{}` is a member of the mesh", guest.name.get_ref());
                self.mistake(place, what, "its members are para guests: leave `virt` out, or `mesh`");
                Virt::Para
            }
            other => {
                let what = format!("`{other}` is no way to virtualize a guest");
                self.mistake(place, what, "choose para or full");
                Virt::Para
            }
        }
    }

    fn paging(&mut self, guest: &Guest, virt: Virt, vcpus: u32) -> Paging {
        let Some(place) = &guest.paging else { return Paging::Ept };
        let name = guest.name.get_ref();
        match place.get_ref().as_str() {
            "ept" => return Paging::Ept,
            "shadow" if guest.firmware.is_some() => {
                let what = "firmware starts in real mode, which there is not with shadow page tables";
                self.mistake(place, what.into(), "paging = \"ept\", or leave `paging` out");
            }
            "shadow" if virt == Virt::Full && vcpus == 1 => return Paging::Shadow,
            "shadow" if virt == Virt::Full => {
                let what = format!("guest `{name}` has shadow page tables and {vcpus} virtual CPUs");
                self.mistake(place, what, "shadows are kept for one: vcpus = 1, or paging = \"ept\"");
            }
            "shadow" => {
                let what = format!("guest `{name}` has shadow page tables, and is a para guest");
                self.mistake(
                    place,
                    what,
                    "shadows are for full guests: virt = \"full\", or leave `paging` out",
                );
            }
            other => self.mistake(place, format!("`{other}` is no way to page"), "choose ept or shadow"),
        }
        Paging::Ept
    }

    /// Near or far from another guest, where no core is named.
    fn placement(&mut self, guest: &Guest, pinned: &[u32]) -> Placement {
        let (place, placement) = match (&guest.near, &guest.far) {
            (None, None) => return Placement::Lowest,
            (Some(near), None) => (near, Placement::Near(near.get_ref().clone())),
            (None, Some(far)) => (far, Placement::Far(far.get_ref().clone())),
            (Some(_), Some(far)) => {
                let what = format!("guest `{}` is to be near one and far from another", guest.name.get_ref());
                self.mistake(far, what, "leave `near` or `far` out");
                return Placement::Lowest;
            }
        };
        if !pinned.is_empty() {
            let what = format!("guest `{}` has its cores already", guest.name.get_ref());
            self.mistake(place, what, "leave `core` out, or `near` and `far`");
        } else if place.get_ref() == guest.name.get_ref() {
            let what = format!("guest `{}` is always near itself", guest.name.get_ref());
            self.mistake(place, what, "name another guest, described before it");
        }
        placement
    }

    /// What becomes of a guest that reboots, and of one that comes to a bad end, unless its policies say otherwise.
    fn restart(&mut self, place: &Option<Spanned<String>>) -> (Policy, Policy) {
        let usual = (Policy::Restart, Policy::Preserve);
        let Some(place) = place else { return usual };
        match place.get_ref().as_str() {
            "always" => (Policy::Restart, Policy::Restart),
            "never" => (Policy::Preserve, Policy::Preserve),
            other => {
                let what = format!("`{other}` is not when a guest is restarted");
                self.mistake(
                    place,
                    what,
                    "choose always or never; on_crash and the like say it for each end",
                );
                usual
            }
        }
    }

    fn watchdog(&mut self, guest: &Guest, mesh: bool) -> u32 {
        let seconds = self.number(&guest.watchdog, 1..=MAX_WATCHDOG_SECONDS, 0, "watchdog");
        if let Some(place) = guest.watchdog.as_ref().filter(|_| !mesh) {
            let what = format!(
                "guest `{}` is none of Atoll's own kernels, and would not feed it",
                guest.name.get_ref()
            );
            self.mistake(place, what, "leave it out; Linux has a watchdog of its own for this, xen_wdt");
        }
        seconds
    }

    fn policy(&mut self, place: &Option<Spanned<String>>, usual: Policy) -> Policy {
        let Some(place) = place else { return usual };
        match place.get_ref().as_str() {
            "preserve" => Policy::Preserve,
            "destroy" => Policy::Destroy,
            "restart" => Policy::Restart,
            other => {
                let what = format!("`{other}` is nothing that becomes of a guest");
                self.mistake(place, what, "choose preserve, destroy or restart");
                usual
            }
        }
    }

    fn cores(&mut self, guest: &Guest, cores: u32) -> Vec<u32> {
        let name = guest.name.get_ref();
        match (&guest.core, &guest.cores) {
            (Some(core), None) => self.core(core, name, cores).into_iter().collect(),
            (None, Some(list)) => {
                if list.get_ref().is_empty() || list.get_ref().len() > MAX_VCPUS {
                    let what = format!("`cores` names {} cores", list.get_ref().len());
                    let remedy = format!("name 1 to {MAX_VCPUS}, or leave it out for the lowest idle ones");
                    self.mistake(list, what, remedy);
                }
                list.get_ref().iter().filter_map(|core| self.core(core, name, cores)).collect()
            }
            (Some(core), Some(_)) => {
                self.mistake(core, "this guest has `core` and `cores`".into(), "leave one of them out");
                Vec::new()
            }
            (None, None) => Vec::new(),
        }
    }

    fn name(&mut self, place: &Spanned<String>) {
        let name = place.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
            let remedy = format!("a name has 1 to {MAX_NAME} of the characters a-z A-Z 0-9 - _ .");
            self.mistake(place, format!("`{name}` is no name for a guest"), remedy);
        } else if name == "Domain-0" {
            self.mistake(place, "`Domain-0` is the control domain's name".into(), "choose another name");
        } else if self.names.insert(name.clone(), place.span().start).is_some() {
            self.mistake(
                place,
                format!("a second guest has the name `{name}`"),
                "give each guest a name of its own",
            );
        }
    }

    fn image(&mut self, place: &Spanned<String>) {
        let (image, around) = (place.get_ref(), self.surroundings);
        if !around.images.contains(image) && !around.stored.contains(image) {
            let others = around.stored.iter().filter(|stored| !around.images.contains(stored));
            let all: Vec<&str> = around.images.iter().chain(others).map(String::as_str).collect();
            let all = all.join(", ");
            let remedy = format!("the images are: {all}; a file's place is `kernel`");
            self.mistake(place, format!("there is no image `{image}`"), remedy);
        }
    }

    fn core(&mut self, place: &Spanned<i64>, name: &str, cores: u32) -> Option<u32> {
        let wanted = *place.get_ref();
        let highest = cores.saturating_sub(1);
        let idle = format!("choose a core from 1 to {highest}");
        if wanted == 0 {
            self.mistake(place, "core 0 is domain 0's".into(), idle);
            return None;
        }
        match u32::try_from(wanted) {
            Ok(core) if core < cores => {
                if let Some(other) = self.cores.insert(core, name.to_owned()) {
                    let (what, remedy) = if other == name {
                        (format!("core {core} is named twice"), "a virtual CPU has a core of its own")
                    } else {
                        let what = format!("guests `{other}` and `{name}` are both on core {core}");
                        (what, "a core belongs to one guest: move one of them")
                    };
                    self.mistake(place, what, remedy);
                }
                Some(core)
            }
            _ => {
                let what = format!("there is no core {wanted} on a machine with {cores} cores");
                self.mistake(place, what, format!("{idle}, or raise [machine] cores"));
                None
            }
        }
    }

    fn device(&mut self, place: &Spanned<String>, guest: &Guest) -> Option<DeviceConfig> {
        let name = guest.name.get_ref();
        let read = device::parse(place.get_ref(), name);
        let device = read.map_err(|(what, remedy)| self.mistake(place, what, remedy)).ok()?;
        // A machine that runs already may have it; one that is described whole has it before this one.
        if self.surroundings.running.is_none() && !self.names.contains_key(&device.backend) {
            let what = format!("no guest `{}` is described before `{name}`", device.backend);
            self.mistake(place, what, "guests start in their order: describe first who serves the device");
        }
        Some(device)
    }

    fn command_line(&mut self, place: &Spanned<String>) -> String {
        let line = place.get_ref();
        if line.len() > MAX_COMMAND_LINE || line.bytes().any(|byte| byte.is_ascii_control()) {
            let remedy = format!("a command line is one line of at most {MAX_COMMAND_LINE} bytes");
            self.mistake(place, "this command line cannot be handed over".into(), remedy);
        }
        line.clone()
    }
}

/// Whether these cores make so many packages of the same size. APIC ids follow one another, so that the bits that number the
/// core within its package must have no value to spare.
fn are_alike(cores: u32, packages: u32) -> bool {
    let each = cores.checked_div(packages).filter(|each| each * packages == cores);
    each.is_some_and(|each| packages == 1 || each.is_power_of_two())
}
