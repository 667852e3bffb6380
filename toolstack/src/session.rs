//! A machine that was booted and whose control domain answers: what demo, benchmarks and emulator tests work with.

use std::time::Duration;

use crate::{
    control::{Client, Greeting, Reconnect},
    error::{At, Error, Result},
    line::Line,
    machine::{Machine, Outcome, Spec},
};
use abi::exit_code::ExitCode;

/// See the module.
pub struct Session {
    /// The conversation with its control domain.
    pub client: Client,
    /// The machine.
    pub machine: Machine,
    /// Guests of the boot configuration that could not be started.
    pub failed: Greeting,
}

impl Session {
    /// Boots and waits for the control domain.
    pub fn start(spec: &Spec) -> Result<Self> {
        let mut machine = Machine::start(spec)?;
        let client = connect(&mut machine)?;
        match client.hello(spec.kind.boot_patience()) {
            Ok(failed) => Ok(Self { client, machine, failed }),
            Err(error) => Err(machine.explain(error)),
        }
    }

    /// Powers the machine off through its control domain and waits for the end.
    pub fn stop(mut self) -> Result<Outcome> {
        self.client.stop(ExitCode::Success as u8).map_err(|error| self.machine.explain(error))?;
        let patience = self.machine.kind().reply_patience().max(Duration::from_secs(60));
        self.machine.wait(patience * 2)
    }

    /// The same error, with the machine's own reason where it has stopped.
    pub fn explain(&mut self, error: Error) -> Error {
        if self.client.is_closed() {
            self.machine.explain(error)
        } else {
            error.with_log(self.machine.log().path())
        }
    }
}

/// A client on a machine's second serial port.
pub fn connect(machine: &mut Machine) -> Result<Client> {
    let line =
        machine.take_line().ok_or_else(|| Error::new("the machine's control line is in use already", ""))?;
    let reconnect = machine
        .reconnect_port()
        .map(|port| -> Reconnect { Box::new(move || Line::connect_tcp(port, Duration::ZERO)) });
    Client::new(line, machine.kind().reply_patience(), reconnect)
        .at("using the control line of", machine.kind().name())
}
