//! A short run of each target without libFuzzer: on its seeds, on mutations of them, and on noise.

use fuzz::{TARGETS, Target};

/// Mutations of each target's seeds in one run.
const ROUNDS: usize = 1_000;
/// The longest input.
const LONGEST: usize = 4_096;

/// Numbers that look random, the same in every run (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % limit.max(1)
    }
}

/// Runs a target on its seeds, on what becomes of them, and on noise: the same in every run.
fn short_run(name: &str) {
    let target: &Target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = target.files().expect("its seeds");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        (target.run)(seed);
    }
    for round in 0..ROUNDS {
        let mut input = seeds.get(round % (seeds.len() + 1)).cloned().unwrap_or_default();
        for _ in 0..=random.below(8) {
            mutate(&mut input, &seeds, &mut random);
        }
        input.truncate(LONGEST);
        (target.run)(&input);
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let mut below = |limit: usize| random.below(limit);
    let at = below(input.len());
    match below(6) {
        0 if !input.is_empty() => input[at] ^= 1 << below(8),
        1 if !input.is_empty() => input[at] = below(256) as u8,
        2 => {
            let noise: Vec<u8> = (0..8 * (1 + below(16))).map(|_| below(256) as u8).collect();
            input.splice(at..at, noise);
        }
        3 => {
            let end = (at + 8 * below(16)).min(input.len());
            input.drain(at..end);
        }
        4 if !seeds.is_empty() => {
            let other = &seeds[below(seeds.len())];
            let from = below(other.len()) & !7;
            input.splice(at & !7..at & !7, other[from..].iter().copied());
        }
        _ => {
            let end = (at + 8 * below(8)).min(input.len());
            let piece = input[at..end].to_vec();
            input.extend(piece);
        }
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                short_run(stringify!($name));
            }
        )*
    };
}

targets!(
    archive,
    ata,
    board,
    cmos,
    control_wire,
    decoder,
    fw_cfg,
    guest_walk,
    i8042,
    image,
    interrupts,
    io_apic,
    kernel,
    local_apic,
    pci,
    pic,
    pit,
    pm,
    shadow,
    uart,
    xenstore
);

#[test]
fn each_target_is_run_here_and_by_libfuzzer() {
    let manifest = include_str!("../Cargo.toml");
    for target in TARGETS {
        assert!(NAMES.contains(&target.name), "{} is not run here", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"\n", target.name)), "{} is no program", target.name);
    }
}

#[test]
fn what_is_written_down_as_seeds_lies_in_files() {
    for target in TARGETS {
        for (name, bytes) in (target.seeds)() {
            let file = target.directory().join(name);
            let written = std::fs::read(&file).unwrap_or_default();
            assert_eq!(written, bytes, "{}: cargo run -p fuzz --example write_seeds", file.display());
        }
    }
}
