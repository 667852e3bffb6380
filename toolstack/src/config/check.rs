//! What a description must keep to, beyond its form. All mistakes are found, not only the first.

use std::collections::HashMap;

use abi::{
    control::wire::{GuestConfig, MachineConfig},
    mesh::MAX_SLOTS,
};
use toml::Spanned;

use super::{
    Config, DEFAULT_CORES, DEFAULT_GUEST_MIB, DEFAULT_MEMORY_MIB, Mistake, RESERVED_MIB, Surroundings,
    file::{File, Guest},
};

/// The least memory a guest kernel starts in.
const MIN_GUEST_MIB: i64 = 4;
/// The most memory a machine may be described with.
const MAX_MEMORY_MIB: i64 = 64 * 1024;
/// The longest name.
const MAX_NAME: usize = 32;
/// The longest command line.
const MAX_COMMAND_LINE: usize = 1024;

pub(super) fn check(file: File, surroundings: &Surroundings) -> Result<Config, Vec<Mistake>> {
    let mut checker = Checker { mistakes: Vec::new(), names: HashMap::new(), cores: HashMap::new() };
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
    let mut guests = Vec::new();
    let mut left = i64::from(memory_mib.saturating_sub(RESERVED_MIB));
    for guest in &file.guest {
        left = checker.memory(guest, left, memory_mib);
        guests.push(checker.guest(guest, cores, &surroundings.images));
    }
    if guests.len() >= cores.max(1) as usize
        && let Some(first_too_many) = file.guest.get(cores.saturating_sub(1) as usize)
    {
        checker.mistake(
            &first_too_many.name,
            format!("{} guests do not fit on {cores} cores, of which domain 0 has one", guests.len()),
            "give the machine more cores, or leave guests out",
        );
    }
    if checker.mistakes.is_empty() {
        let stop_when_done = file.machine.stop_when_done.unwrap_or(false);
        Ok(Config { cores, memory_mib, machine: MachineConfig { guests, stop_when_done } })
    } else {
        checker.mistakes.sort_by_key(|mistake| mistake.offset);
        Err(checker.mistakes)
    }
}

struct Checker {
    mistakes: Vec<Mistake>,
    names: HashMap<String, usize>,
    cores: HashMap<u32, String>,
}

impl Checker {
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
        let wanted = guest.memory_mib.as_ref().map_or(i64::from(DEFAULT_GUEST_MIB), |value| *value.get_ref());
        let after = left.saturating_sub(wanted.max(0));
        if after < 0 && left >= 0 {
            let what = format!(
                "guest `{}` asks for {wanted} MiB, and {left} MiB of the machine's {machine_mib} are left",
                guest.name.get_ref()
            );
            let remedy = format!(
                "raise [machine] memory_mib or give guests less; hypervisor and domain 0 keep {RESERVED_MIB} MiB"
            );
            match &guest.memory_mib {
                Some(place) => self.mistake(place, what, remedy),
                None => self.mistake(&guest.name, what, remedy),
            }
        }
        after
    }

    fn guest(&mut self, guest: &Guest, cores: u32, images: &[String]) -> GuestConfig {
        self.name(&guest.name);
        self.image(&guest.image, images);
        let core = guest.core.as_ref().and_then(|core| self.core(core, guest.name.get_ref(), cores));
        let memory_mib =
            self.number(&guest.memory_mib, MIN_GUEST_MIB..=MAX_MEMORY_MIB, DEFAULT_GUEST_MIB, "memory_mib");
        let command_line =
            guest.command_line.as_ref().map(|line| self.command_line(line)).unwrap_or_default();
        GuestConfig {
            memory_mib,
            command_line,
            cores: core.into_iter().collect(),
            ..super::any_core(guest.name.get_ref(), guest.image.get_ref())
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

    fn image(&mut self, place: &Spanned<String>, images: &[String]) {
        let image = place.get_ref();
        if !images.contains(image) {
            let remedy = format!("the images are: {}", images.join(", "));
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
                    let what = format!("guests `{other}` and `{name}` are both on core {core}");
                    self.mistake(place, what, "a core belongs to one guest: move one of them");
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

    fn command_line(&mut self, place: &Spanned<String>) -> String {
        let line = place.get_ref();
        if line.len() > MAX_COMMAND_LINE || line.bytes().any(|byte| byte.is_ascii_control()) {
            let remedy = format!("a command line is one line of at most {MAX_COMMAND_LINE} bytes");
            self.mistake(place, "this command line cannot be handed over".into(), remedy);
        }
        line.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    fn parse(text: &str) -> Result<Config> {
        let images = ["bench", "hello", "mesh"].map(str::to_owned).to_vec();
        Config::parse(text, Path::new("web.toml"), &Surroundings { images, running: None })
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = parse(text).unwrap_err();
        let first = error.what().lines().next().unwrap_or_default();
        assert_eq!(first, expected);
        assert!(!error.remedy().is_empty());
    }

    #[test]
    fn a_whole_description() {
        let config = parse(
            "[machine]\ncores = 2\nmemory_mib = 512\nstop_when_done = true\n\
             [[guest]]\nname = \"web\"\nimage = \"hello\"\ncore = 1\nmemory_mib = 64\ncommand_line = \"a=b\"\n",
        )
        .unwrap();
        assert_eq!((config.cores, config.memory_mib, config.machine.stop_when_done), (2, 512, true));
        let expected = GuestConfig { memory_mib: 64, command_line: "a=b".into(), ..guest("web", "hello", 1) };
        assert_eq!(config.machine.guests, [expected]);
    }

    #[test]
    fn what_is_left_out_has_a_usual_value() {
        let config = parse("[[guest]]\nname = \"a\"\nimage = \"mesh\"\n").unwrap();
        assert_eq!((config.cores, config.memory_mib), (DEFAULT_CORES, DEFAULT_MEMORY_MIB));
        assert_eq!(
            (&config.machine.guests[0].cores[..], config.machine.guests[0].memory_mib),
            (&[][..], DEFAULT_GUEST_MIB)
        );
    }

    #[test]
    fn every_mistake_has_its_line() {
        let guest = "[[guest]]\nname = \"a\"\nimage = \"mesh\"\ncore = 1\n";
        refused(
            "[machine]\ncoers = 4\n",
            "web.toml:2: unknown field `coers`, expected one of `cores`, `memory_mib`, `stop_when_done`",
        );
        refused("[machine]\ncores = \"four\"\n", "web.toml:2: invalid type: string \"four\", expected i64");
        refused("[machine]\n\ncores = 99\n", "web.toml:3: cores = 99 is out of range");
        refused("[machine\n", "web.toml:1: unclosed table, expected `]`");
        refused("[[guest]]\nimage = \"mesh\"\n", "web.toml:1: missing field `name`");
        refused(&guest.replace("core = 1", "core = 0"), "web.toml:4: core 0 is domain 0's");
        refused(
            &guest.replace("core = 1", "core = 4"),
            "web.toml:4: there is no core 4 on a machine with 4 cores",
        );
        refused(
            &guest.replace("core = 1", "core = -1"),
            "web.toml:4: there is no core -1 on a machine with 4 cores",
        );
        refused(&guest.replace("mesh", "mush"), "web.toml:3: there is no image `mush`");
        refused(&guest.replace("\"a\"", "\"a b\""), "web.toml:2: `a b` is no name for a guest");
        refused(
            &guest.replace("\"a\"", "\"Domain-0\""),
            "web.toml:2: `Domain-0` is the control domain's name",
        );
        refused(&format!("{guest}memory_mib = 1\n"), "web.toml:5: memory_mib = 1 is out of range");
        refused(
            &format!("{guest}memory_mib = 2000\n"),
            "web.toml:5: guest `a` asks for 2000 MiB, and 896 MiB of the machine's 1024 are left",
        );
        refused(
            &format!("{guest}command_line = \"a\\nb\"\n"),
            "web.toml:5: this command line cannot be handed over",
        );
        let twice = format!("{guest}{}", guest.replace("core = 1", "core = 2"));
        refused(&twice, "web.toml:6: a second guest has the name `a`");
        let same_core = format!("{guest}{}", guest.replace("\"a\"", "\"b\""));
        refused(&same_core, "web.toml:8: guests `a` and `b` are both on core 1");
        refused(
            &format!("[machine]\ncores = 1\n{}", guest.replace("core = 1\n", "")),
            "web.toml:4: 1 guests do not fit on 1 cores, of which domain 0 has one",
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let error = parse("[[guest]]\nname = \"\"\nimage = \"nope\"\n").unwrap_err().to_string();
        assert!(error.contains("web.toml:2:") && error.contains("web.toml:3:"), "{error}");
        assert_eq!(error.matches("remedy:").count(), 2);
    }

    #[test]
    fn the_running_machine_sets_the_limits() {
        let text = "[[guest]]\nname = \"a\"\nimage = \"mesh\"\ncore = 3\n";
        let surroundings = Surroundings { images: vec!["mesh".into()], running: Some((2, 1024)) };
        let error = Config::parse(text, Path::new("a.toml"), &surroundings).unwrap_err();
        assert!(error.what().starts_with("a.toml:4: there is no core 3"), "{error}");
    }
}
