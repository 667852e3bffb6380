//! The command line: verbs, options, and the help that teaches them.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::Options,
    error::Result,
    holder, host, leftovers,
    machine::Kind,
    verbs::{
        self,
        bench::{Files, On, Suite},
        console::{Dump, Script},
        lab::LabArgs,
        stop::Wish,
        topology::Wish as Topology,
        xenstore::Form,
    },
};

/// Atoll: a multikernel as virtual machines, one guest kernel a core.
#[derive(Debug, Parser)]
#[command(
    name = "atoll",
    version,
    max_term_width = 100,
    after_help = "First steps:\n  \
        atoll doctor             which machines this host can run, and what is missing\n  \
        atoll demo               all of it once: boot, messages, pause, destroy, create\n  \
        atoll up                 boot four cores in the background, then\n  \
        atoll list | top | console mesh1 | down\n\n\
        In a clone say `cargo atoll VERB`. `atoll VERB --help` has examples."
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// Which machine to boot on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// QEMU/KVM where the host has VMX and it works, else Bochs
    Auto,
    /// QEMU with the host's VMX, which KVM must hand on (nested=1)
    Kvm,
    /// Bochs, which emulates VMX: works anywhere, and counts instructions exactly
    Bochs,
    /// QEMU's own emulation: no VMX, shows how Atoll says so
    Tcg,
    /// QEMU/KVM in Linux in Bochs: nested virtualization on a host without any
    Nested,
}

impl Choice {
    /// The machine that is meant.
    pub fn kind(self) -> Kind {
        match self {
            Self::Auto => host::best_machine(),
            Self::Kvm => Kind::Kvm,
            Self::Bochs => Kind::Bochs,
            Self::Tcg => Kind::Tcg,
            Self::Nested => Kind::Nested,
        }
    }
}

/// Where to boot, and what.
#[derive(Clone, Debug, Args)]
pub struct MachineArgs {
    /// The machine to boot on
    #[arg(long, value_enum, default_value = "auto")]
    pub machine: Choice,
    /// Boot these images instead of building the clone's, as from target/bare/x86_64-unknown-linux-gnu/bare
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
}

/// Leave to install.
#[derive(Clone, Copy, Debug, Args)]
pub struct SetupArgs {
    /// Install missing packages without asking
    #[arg(long, short)]
    pub yes: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Boot a machine in the background
    #[command(
        after_help = "Examples:\n  atoll up                         four cores, a mesh of three guests\n  \
        atoll up web.toml                a machine of your own\n  atoll up --machine bochs\n\n\
        A description:\n  [machine]\n  cores = 4\n  memory_mib = 1024\n\n  [[guest]]\n  name = \"web\"\n  \
        image = \"hello\"\n  core = 1            # left out: the lowest idle one\n  memory_mib = 32\n  command_line = \"a=b\"\n\n  \
        [[guest]]\n  name = \"linux\"\n  kernel = \"vmlinuz\"  # bzImage or ELF with a PVH note, as seen from this file\n  \
        ramdisk = \"initrd.gz\"\n  cores = [2, 3]     # or vcpus = 2: the lowest idle ones\n  memory_mib = 256\n  \
        command_line = \"console=hvc0\"\n  on_poweroff = \"preserve\"   # or destroy, restart; also on_reboot, on_crash, on_watchdog\n  \
        restart = \"always\"    # or never: after a bad end\n\n  \
        [[guest]]\n  name = \"multi\"\n  image = \"multikernel\"\n  watchdog = 5          # seconds, for Atoll's own kernels"
    )]
    Up {
        /// Machine and guests, in TOML
        file: Option<PathBuf>,
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Power the running machine off
    Down,
    /// Show all of it once, with figures: the last line is `demo: passed`
    #[command(
        after_help = "Examples:\n  atoll demo\n  atoll demo --yes                 installs missing packages unasked\n  \
        atoll demo --machine bochs"
    )]
    Demo {
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        setup: SetupArgs,
    },
    /// Run every test: on the host, of the rings' orderings, by fuzzing, and on emulators
    #[command(
        after_help = "Examples:\n  atoll test --yes\n  atoll test -- nested             only emulator tests with that in their name\n\n\
        Plain `cargo test` runs the host's tests alone."
    )]
    Test {
        #[command(flatten)]
        setup: SetupArgs,
        /// For the emulator tests: names to choose them by, and options
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run the fuzz targets: bytes that a guest, the wire or a file may hold
    #[command(after_help = "Examples:\n  atoll fuzz                       a short run of all\n  \
        atoll fuzz uart --runs 10000000  a longer one, which goes on from what the last has found\n\n\
        What breaks a target is kept in target/fuzz/found, and how to repeat it is told.")]
    Fuzz {
        /// The targets; left out: all
        targets: Vec<String>,
        /// Inputs to run each target on
        #[arg(long, value_name = "COUNT")]
        runs: Option<u64>,
        #[command(flatten)]
        setup: SetupArgs,
    },
    /// List domains
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  atoll list\n  atoll list --json | jq '.[].exits_total'"
    )]
    List {
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Create and start a guest in the running machine, or the guests of a description
    #[command(
        after_help = "Examples:\n  atoll create --kernel /boot/vmlinuz-6.1.0-cloud-amd64 --ramdisk initrd.gz \\\n      \
        --name linux --vcpus 2 --extra 'console=hvc0' --console\n  \
        atoll create --image hello\n  \
        printf '[[guest]]\\nname = \"web\"\\nimage = \"hello\"\\n' > web.toml; atoll create web.toml\n\n\
        Kernels and ramdisks are uploaded, unless the machine has them already (`atoll image list`)."
    )]
    Create {
        /// Guests, in TOML; see `atoll up --help`
        #[arg(conflicts_with_all = ["kernel", "image"])]
        file: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
        /// Attach to the first guest's console
        #[arg(long, short, conflicts_with = "json")]
        console: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// End a guest at once and free its core and memory
    Destroy {
        /// The guest
        name: String,
    },
    /// Take a guest off its core
    #[command(after_help = "Example:\n  atoll pause mesh2; atoll list; atoll unpause mesh2")]
    Pause {
        /// The guest
        name: String,
    },
    /// Let a paused guest go on
    Unpause {
        /// The guest
        name: String,
    },
    /// List cores, take one out of service, put it back, or replace the kernel on it
    #[command(
        after_help = "Core 0 has domain 0 and stays. A guest that cannot suspend itself is frozen between two instructions.\n\
        `replace` works with members of the multikernel and other images that take packages.\n\n\
        Examples:\n  atoll core list\n  atoll core offline 2             its guest is suspended, and kept\n  \
        atoll core online 2              the guest goes on\n  atoll core online 3 --guest web  ... on another core\n  \
        atoll core replace 2             a new build takes over, with all that the kernel there knows"
    )]
    Core {
        #[command(subcommand)]
        what: CoreVerb,
    },
    /// Attach to a guest's console; Ctrl-] detaches
    #[command(
        after_help = "Examples:\n  atoll console mesh1\n  atoll console mesh1 --dump       print what is there, and end\n  \
        atoll console linux --input 'nproc; echo ready' --until ready"
    )]
    Console {
        /// The guest; Domain-0 is the control domain
        name: String,
        /// Print what was printed so far, and end
        #[arg(long, conflicts_with_all = ["input", "until"])]
        dump: bool,
        /// With --dump: also what it printed before it was restarted
        #[arg(long, requires = "dump")]
        all: bool,
        /// Type this and Enter, for scripts
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        input: Option<String>,
        /// Print what the guest prints until this has come; without --input, all it has printed since its start counts
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        until: Option<String>,
        /// Seconds to wait for it
        #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "until")]
        timeout: u64,
    },
    /// Ask a guest to power off; `destroy` does not ask
    #[command(after_help = "Example:\n  atoll shutdown linux -w")]
    Shutdown {
        #[command(flatten)]
        stop: StopArgs,
    },
    /// Ask a guest to reboot
    #[command(after_help = "Example:\n  atoll reboot linux -w            returns when it is created again")]
    Reboot {
        #[command(flatten)]
        stop: StopArgs,
    },
    /// Show xenstore, which domain 0 keeps for all guests
    #[command(
        name = "xenstore-ls",
        after_help = "Examples:\n  atoll xenstore-ls                 all of it\n  \
        atoll xenstore-ls -f -p /local/domain/1"
    )]
    XenstoreLs {
        /// Whole paths
        #[arg(short)]
        full: bool,
        /// Permissions: the owner first, then n(one), r(ead), w(rite) or b(oth), and a domain
        #[arg(short)]
        permissions: bool,
        /// Where to begin
        #[arg(default_value = "/")]
        path: String,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Print values of xenstore
    #[command(name = "xenstore-read", after_help = "Example:\n  atoll xenstore-read /local/domain/1/name")]
    XenstoreRead {
        /// Nodes; a path without a leading / is domain 0's
        #[arg(required = true)]
        path: Vec<String>,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Write values of xenstore
    #[command(
        name = "xenstore-write",
        after_help = "Example:\n  atoll xenstore-write /local/domain/1/data/colour blue"
    )]
    XenstoreWrite {
        /// Node and value, as often as you like
        #[arg(required = true, num_args = 2.., value_names = ["PATH", "VALUE"], allow_hyphen_values = true)]
        pairs: Vec<String>,
    },
    /// Remove nodes of xenstore and all below them
    #[command(name = "xenstore-rm", after_help = "Example:\n  atoll xenstore-rm /local/domain/1/data/colour")]
    XenstoreRm {
        /// Nodes
        #[arg(required = true)]
        path: Vec<String>,
    },
    /// Show the machine: cores, memory, boot time, processor
    #[command(
        after_help = "Examples:\n  atoll info\n  atoll info --audit --json        walk every EPT as well\n  \
        atoll info topology              where cores and caches are, what messages cost",
        args_conflicts_with_subcommands = true
    )]
    Info {
        #[command(subcommand)]
        what: Option<About>,
        /// Walk every EPT and show what was found
        #[arg(long)]
        audit: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Print the hypervisor's log
    Dmesg {
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Watch domains: exits by kind or tasks, events, messages, each second; t shows tasks, q quits
    #[command(
        after_help = "Examples:\n  atoll top\n  atoll top --tasks                whose time it is on each core of the mesh\n  \
        atoll top --json                 one second, and no terminal"
    )]
    Top {
        /// Show tasks from the start
        #[arg(long)]
        tasks: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Why a guest crashed, or crashed last before it was restarted: cause and registers
    Crash {
        /// The guest
        name: String,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Fetch Debian's kernel and make a small file system for it: a guest to try
    #[command(
        after_help = "Example:\n  atoll linux                      writes linux/vmlinuz, linux/initrd.gz, linux/linux.toml\n  \
        atoll up linux/linux.toml\n  atoll console linux"
    )]
    Linux {
        /// The directory to write to
        #[arg(default_value = "linux")]
        directory: PathBuf,
        #[command(flatten)]
        setup: SetupArgs,
    },
    /// Measure
    #[command(
        after_help = "Examples:\n  atoll bench exits                     what each kind of exit costs\n  \
        atoll bench exits --machine bochs --json > exits.json\n  \
        atoll bench modes --report modes.html   full, para and bare, as tables and charts\n  \
        atoll bench boot                      Debian's kernel to its shell in each of these\n\n\
        Every figure has a label: emulated (instructions, exact), nested, or bare."
    )]
    Bench {
        /// What to measure
        #[arg(value_enum)]
        suite: Suite,
        /// `para`: where
        #[arg(long, value_enum, default_value_t)]
        on: On,
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        setup: SetupArgs,
        #[command(flatten)]
        json: JsonArgs,
        #[command(flatten)]
        files: Files,
    },
    /// Replay a figure of a paper here: chart, the paper's shape, and whether it holds
    #[command(
        after_help = "Labs: shared-memory, urpc, unmap, two-phase, locks, counters, hotplug. `atoll lab` tells what each\n\
        measures, and where it runs.\n\nExamples:\n  \
        cargo lab locks                      in a clone: built with optimization, as --on host needs it\n  \
        atoll lab counters --report counters.html --csv counters.csv\n  \
        atoll lab unmap --on vm              by guests; in Bochs, exact\n\n\
        Every figure has a label: hosted (this computer's caches), emulated (instructions, exact), nested, or bare."
    )]
    Lab {
        #[command(flatten)]
        wish: LabArgs,
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        setup: SetupArgs,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Which machines this host can run, what is missing, and the remedy
    Doctor {
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Write a bootable CD image: machine and guests without a toolstack. Or `image list`, `image rm`: the images of
    /// the running machine
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "Examples:\n  atoll image -o atoll.iso\n  atoll image web.toml -o web.iso   then, for a USB stick:\n  \
        dd if=web.iso of=/dev/sdX bs=1M\n  \
        atoll image list                  what the running machine can make guests of\n  \
        atoll image rm vmlinuz            forgets one that was uploaded\n\nA CD starts its guests by itself and logs to the first serial port."
    )]
    Image {
        /// Machine and guests, in TOML; see `atoll up --help`
        file: Option<PathBuf>,
        /// The file to write
        #[arg(long, short, value_name = "FILE", required = true)]
        output: Option<PathBuf>,
        /// Put these images in instead of building the clone's
        #[arg(long, value_name = "DIR")]
        images: Option<PathBuf>,
        #[command(subcommand)]
        stored: Option<Stored>,
    },
    /// Hold a machine for `up`
    #[command(name = holder::VERB, hide = true)]
    Serve {
        /// The run's directory
        directory: PathBuf,
    },
}

/// What to do with cores.
#[derive(Debug, Subcommand)]
enum CoreVerb {
    /// List all: state, guest, and since when
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Take a core out of service: its guest is suspended, or frozen where it cannot, and kept; it leaves VMX
    Offline {
        /// Its number
        core: u32,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Put a core back into service; the guest that it keeps goes on
    Online {
        /// Its number
        core: u32,
        /// With this guest, which another core may keep
        #[arg(long, value_name = "NAME", conflicts_with = "empty")]
        guest: Option<String>,
        /// Without a guest: what the core keeps stays kept; refused if no other core is left to come
        #[arg(long)]
        empty: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Let a new build of the kernel take over a running core, with its tasks, channels and names
    #[command(
        after_help = "The kernel that is there writes down all that it knows, and waits. The new one is loaded into memory \
        of its own,\nreads that, and goes on: same domain, same channels, same place in the mesh, so nobody else notices. \
        If it refuses,\npanics, crashes, or is not done within a second, the old one goes on where it was, and this \
        command says why.\n\nExamples:\n  atoll core replace 2                       the same image, begun anew\n  \
        atoll core replace 2 ./new/multikernel     a file, which is uploaded first\n  \
        atoll core replace 2 successor             another of `atoll image list`\n  \
        atoll core replace 2 --command-line pace=sleep"
    )]
    Replace {
        /// The core's number
        core: u32,
        /// The new kernel: an image that the machine has, or a file (with a / in it); else the guest's own image, as it is now
        image: Option<String>,
        /// Its command line; the guest's own where it is left out
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        command_line: Option<String>,
        #[command(flatten)]
        json: JsonArgs,
    },
}

impl CoreVerb {
    fn run(&self) -> Result<()> {
        match self {
            Self::List { json } => verbs::core::list(json.json),
            Self::Offline { core, json } => verbs::core::offline(*core, json.json),
            Self::Replace { core, image, command_line, json } => {
                verbs::core::replace(*core, image.as_deref(), command_line.as_deref(), json.json)
            }
            Self::Online { core, guest, empty, json } => {
                verbs::core::online(*core, guest.as_deref(), *empty, json.json)
            }
        }
    }
}

/// What `info` is about, other than the machine as a whole.
#[derive(Debug, Subcommand)]
enum About {
    /// Where cores, caches and memory are, and what messages between cores cost
    #[command(
        after_help = "Examples:\n  atoll info topology\n  atoll info topology --host       this computer's own\n  \
        atoll info topology --ask 'shares_cache(1, B, L)'\n\n\
        Facts: core(C) thread(C,G) package(C,P) node(C,N) cache(C,LEVEL,G) cache_kind(LEVEL,KIND,KIB,LINE)\n\
        node_distance(N,M,D) io_apic(I,ADDRESS,GSI) pci(BUS,DEVICE,FUNCTION,VENDOR,MODEL,CLASS)\n\
        latency(A,B,TICKS)\n\
        Rules: same_core(A,B) shares_cache(A,B,LEVEL) same_package(A,B) same_node(A,B) distance(A,B,D)\n\
        neighbour(A,B) contradiction(A,B,C); `not`, `=`, `!=`, `<`, `<=` as conditions; capitals are variables"
    )]
    Topology {
        /// This computer's own, not the running machine's
        #[arg(long)]
        host: bool,
        /// Show what was measured before; measure nothing
        #[arg(long)]
        as_is: bool,
        /// Ask the knowledge base
        #[arg(long, value_name = "QUESTION")]
        ask: Option<String>,
        #[command(flatten)]
        json: JsonArgs,
    },
}

/// The running machine's images.
#[derive(Debug, Subcommand)]
enum Stored {
    /// List the images that guests can be made of
    List {
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Forget an image that was uploaded
    Rm {
        /// Its name
        name: String,
    },
}

/// Whom to ask, and whether to wait.
#[derive(Clone, Debug, Args)]
struct StopArgs {
    /// The guest
    name: String,
    /// Wait until it has done it
    #[arg(long, short)]
    wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "wait")]
    timeout: u64,
    #[command(flatten)]
    json: JsonArgs,
}

impl StopArgs {
    fn run(&self, wish: Wish) -> Result<()> {
        verbs::stop::run(wish, &self.name, self.wait, self.timeout, self.json.json)
    }
}

/// Runs the command; a failure is told on stderr and in the exit status.
pub fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    match leftovers::clear_on_signals().and_then(|()| run(verb)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("atoll: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up { file, machine } => verbs::up::run(file.as_deref(), &machine)?,
        Verb::Down => verbs::down::run()?,
        Verb::Demo { machine, setup } => return Ok(verbs::demo::run(&machine, setup.yes)),
        Verb::Test { setup, arguments } => verbs::test::run(setup.yes, &arguments)?,
        Verb::Fuzz { targets, runs, setup } => verbs::fuzz::run(setup.yes, &targets, runs)?,
        Verb::List { json } => verbs::list::run(json.json)?,
        Verb::Create { file, options, console, json } => {
            verbs::create::run(file.as_deref(), &options, console, json.json)?;
        }
        Verb::Destroy { name } => verbs::orders::destroy(&name)?,
        Verb::Pause { name } => verbs::orders::pause(&name)?,
        Verb::Unpause { name } => verbs::orders::unpause(&name)?,
        Verb::Core { what } => what.run()?,
        Verb::Console { name, dump, all, input, until, timeout } => {
            let dump = dump.then_some(if all { Dump::All } else { Dump::Life });
            verbs::console::run(&name, dump, &Script { input, until, timeout })?;
        }
        Verb::Shutdown { stop } => stop.run(Wish::Shutdown)?,
        Verb::Reboot { stop } => stop.run(Wish::Reboot)?,
        Verb::XenstoreLs { full, permissions, path, json } => {
            verbs::xenstore::list(&path, Form { full, permissions, json: json.json })?;
        }
        Verb::XenstoreRead { path, json } => verbs::xenstore::read(&path, json.json)?,
        Verb::XenstoreWrite { pairs } => verbs::xenstore::write(&pairs)?,
        Verb::XenstoreRm { path } => verbs::xenstore::remove(&path)?,
        Verb::Info { what: Some(About::Topology { host, as_is, ask, json }), .. } => {
            verbs::topology::run(&Topology { host, as_is, question: ask.as_deref(), json: json.json })?;
        }
        Verb::Info { what: None, audit, json } => verbs::info::run(audit, json.json)?,
        Verb::Dmesg { json } => verbs::dmesg::run(json.json)?,
        Verb::Top { tasks, json } => verbs::top::run(tasks, json.json)?,
        Verb::Crash { name, json } => verbs::crash::run(&name, json.json)?,
        Verb::Bench { suite, on, machine, setup, json, files } => {
            verbs::bench::run(suite, on, &machine, setup.yes, json.json, &files)?;
        }
        Verb::Lab { wish, machine, setup, json } => verbs::lab::run(&wish, &machine, setup.yes, json.json)?,
        Verb::Linux { directory, setup } => verbs::linux::run(&directory, setup.yes)?,
        Verb::Doctor { json } => verbs::doctor::run(json.json),
        Verb::Image { stored: Some(Stored::List { json }), .. } => verbs::image::list(json.json)?,
        Verb::Image { stored: Some(Stored::Rm { name }), .. } => verbs::image::remove(&name)?,
        Verb::Image { file, output, images, stored: None } => {
            verbs::image::run(file.as_deref(), &output.unwrap_or_default(), images.as_deref())?
        }
        Verb::Serve { directory } => holder::serve(&directory)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
