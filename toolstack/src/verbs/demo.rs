//! `demo`: all of Atoll once, on one screen, each claim checked.

use std::{
    fmt::Display,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use abi::control::wire::{Domain, GuestConfig, State};

use super::{
    info::audit_line,
    list::{cores as cores_of, exits},
};
use crate::{
    cli::MachineArgs,
    config::{Config, any_core},
    error::{Error, Result},
    machine::{Boot, Kind, Spec},
    output::{self, grouped},
    places, progress,
    session::Session,
    setup,
};

/// Messages each guest must have received for a step to count.
const ENOUGH: u64 = 100;
/// Between two looks at the domains.
const LOOK: Duration = Duration::from_millis(250);

/// Runs it. The last line is the verdict.
pub fn run(machine: &MachineArgs, yes: bool) -> ExitCode {
    match demo(machine, yes) {
        Ok(()) => {
            output::say("demo: passed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            if !error.remedy().is_empty() {
                output::say(format!("remedy: {}", error.remedy()));
            }
            output::say(format!("demo: failed: {}", error.what().replace('\n', "; ")));
            ExitCode::FAILURE
        }
    }
}

fn demo(machine: &MachineArgs, yes: bool) -> Result<()> {
    let kind = machine.machine.kind();
    setup::ensure(&[kind.name()], yes)?;
    let (config, images, kind) = super::prepare(None, machine)?;
    done("built", format!("hypervisor, control domain and {} guest images", images.guests.len()));
    let spec = Spec {
        kind,
        cores: config.cores,
        packages: config.packages,
        max_cores: config.max_cores,
        memory_mib: config.memory_mib,
        boot: Boot::of(&images, &config)?,
        processor: None,
        unattended: false,
        directory: places::run_directory("demo"),
    };
    let mut show = boot(&spec, &config)?;
    match show.acts() {
        Ok(()) => show.end(),
        Err(error) => Err(show.session.explain(error)),
    }
}

fn boot(spec: &Spec, config: &Config) -> Result<Show> {
    let (start, work) =
        (Instant::now(), progress::spinner(format!("booting {} cores in {}", spec.cores, spec.kind.name())));
    let session = Session::start(spec)?;
    work.finish_and_clear();
    if let Some((name, refusal)) = session.failed.first() {
        let error = Error::from(refusal.clone()).during(format!("guest `{name}` did not start"));
        return Err(error.with_log(session.machine.log().path()));
    }
    let names = config.machine.guests.iter().map(|guest| guest.name.clone()).collect();
    done(
        "booted",
        format!("{} cores in {}, {:.1} s", spec.cores, spec.kind.name(), start.elapsed().as_secs_f32()),
    );
    Ok(Show { session, names })
}

struct Show {
    session: Session,
    /// The guests, in the order of their cores.
    names: Vec<String>,
}

impl Show {
    fn acts(&mut self) -> Result<()> {
        let machine = self.session.client.machine()?;
        done(
            "memory",
            format!("{} MiB for guests, {} MiB free", machine.frames_total / 256, machine.frames_free / 256),
        );
        let all: Vec<String> = self.names.clone();
        let [_, second, ..] = all.as_slice() else {
            return Err(Error::new("the demo needs two guests", ""));
        };
        let others: Vec<&String> = all.iter().filter(|name| *name != second).collect();

        self.go_on(&all, "guests exchange messages")?;
        let ticks = machine.guests_running_tsc.saturating_sub(machine.boot_tsc);
        done("boot", format!("{} ticks from the first instruction to all guests running", grouped(ticks)));
        self.steady(&all)?;

        self.session.client.pause(second)?;
        let still = self.domain(second)?;
        if still.state != State::Paused {
            return Err(Error::new(format!("{second} was paused and is {:?}", still.state), ""));
        }
        self.go_on(&others, &format!("{second} is paused, the others go on"))?;
        self.session.client.unpause(second)?;
        self.go_on(&all, &format!("{second} goes on"))?;

        self.session.client.destroy(second)?;
        if self.session.client.domain(second).is_ok() {
            return Err(Error::new(format!("{second} was destroyed and is still listed"), ""));
        }
        self.go_on(&others, &format!("{second} is destroyed, the others go on"))?;
        let (domain, cores, ticks) =
            self.session.client.create(GuestConfig { cores: still.cores, ..any_core(second, "mesh") })?;
        let ticks = grouped(ticks);
        self.go_on(
            &all,
            &format!(
                "{second} is created again: domain {domain} on core {} in {ticks} ticks",
                cores_of(&cores)
            ),
        )?;

        let audit = self.session.client.audit()?;
        done("audit", audit_line(&audit));
        if [audit.leaked, audit.hypervisor, audit.free, audit.miscounted] != [0; 4] {
            return Err(Error::new("the audit found memory where it must not be", "this is a bug in Atoll"));
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        let log = self.session.machine.log().clone();
        let outcome = self.session.stop()?;
        if !outcome.is_success() {
            return Err(outcome.as_error().with_log(log.path()));
        }
        done(
            "off",
            format!("exit {:#x} {}; serial log {}", outcome.code, outcome.name, log.path().display()),
        );
        Ok(())
    }

    fn domain(&self, name: &str) -> Result<Domain> {
        self.session.client.domain(name)
    }

    /// The domains now; one that crashed ends the demo, with the reason.
    fn domains(&self) -> Result<Vec<Domain>> {
        let domains = self.session.client.list()?;
        match domains.iter().find(|domain| domain.state == State::Crashed) {
            None => Ok(domains),
            Some(Domain { name, .. }) => {
                let cause = self
                    .session
                    .client
                    .crash(name)
                    .map_or_else(|error| error.to_string(), |(cause, _)| cause);
                Err(Error::new(format!("{name} crashed: {cause}"), "read the serial log"))
            }
        }
    }

    /// Waits until each of these guests has received and sent enough messages more.
    fn go_on<Name: AsRef<str>>(&self, names: &[Name], what: &str) -> Result<()> {
        let work = progress::spinner(what.to_owned());
        let (start, patience) = (Instant::now(), patience(self.session.machine.kind()));
        let before = self.domains()?;
        loop {
            thread::sleep(LOOK);
            let now = self.domains()?;
            let progress: Vec<(u64, u64)> =
                names.iter().map(|name| moved(&before, &now, name.as_ref())).collect();
            if progress.iter().all(|&(received, sent)| received >= ENOUGH && sent >= ENOUGH) {
                let messages: u64 = progress.iter().map(|&(received, _)| received).sum();
                work.finish_and_clear();
                let seconds = start.elapsed().as_secs_f32();
                done(
                    "messages",
                    format!(
                        "{what}: {} received by {} guests in {seconds:.1} s",
                        grouped(messages),
                        names.len()
                    ),
                );
                return Ok(());
            }
            if start.elapsed() > patience {
                let seen: Vec<String> = names
                    .iter()
                    .zip(progress)
                    .map(|(name, (received, sent))| format!("{} +{received} in, +{sent} out", name.as_ref()))
                    .collect();
                return Err(Error::new(
                    format!(
                        "messages do not go on ({what}): {} in {} s",
                        seen.join("; "),
                        patience.as_secs()
                    ),
                    "read the serial log",
                ));
            }
        }
    }

    /// What a while of exchanging messages costs in exits.
    fn steady(&self, names: &[String]) -> Result<()> {
        let before = self.domains()?;
        thread::sleep(Duration::from_secs(2));
        let now = self.domains()?;
        let pairs = names.iter().filter_map(|name| Some((find(&before, name)?, find(&now, name)?)));
        let (mut messages, mut all_exits) = (0, 0);
        for (old, new) in pairs {
            messages += new.messages_in.saturating_sub(old.messages_in);
            all_exits += exits(new).saturating_sub(exits(old));
        }
        done("steady", format!("{} messages and {} exits in 2 s", grouped(messages), grouped(all_exits)));
        Ok(())
    }
}

fn find<'domains>(domains: &'domains [Domain], name: &str) -> Option<&'domains Domain> {
    domains.iter().find(|domain| domain.name == name)
}

/// Messages received and sent between two looks. A domain that was made anew counts from nought.
fn moved(before: &[Domain], now: &[Domain], name: &str) -> (u64, u64) {
    let Some(new) = find(now, name) else { return (0, 0) };
    match find(before, name).filter(|old| old.id == new.id) {
        Some(old) => (
            new.messages_in.saturating_sub(old.messages_in),
            new.messages_out.saturating_sub(old.messages_out),
        ),
        None => (new.messages_in, new.messages_out),
    }
}

fn patience(kind: Kind) -> Duration {
    kind.reply_patience().max(Duration::from_secs(60))
}

fn done(step: &str, what: impl Display) {
    output::say(format!("{step:>9}  {what}"));
}
