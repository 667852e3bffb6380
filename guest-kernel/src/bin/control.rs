//! Domain 0: the control program at its serial port.
#![no_std]
#![no_main]

extern crate alloc;

use abi::xen::event_channel::{Port, virq};
use guest_kernel::control::atoll::{self as machine, Com2};
use guest_kernel::control::serial::Uart;
use guest_kernel::control::{Control, Rest};
use guest_kernel::kernel::{Kernel, Pace, Program, Step};
use guest_kernel::platform::atoll::{Atoll, Started, hypercall};
use guest_kernel::say;

guest_kernel::main!(run);

/// Where the serial port's interrupt comes in.
const SERIAL_VECTOR: u8 = 0x50;

struct Domain0 {
    control: Control<machine::Atoll>,
    /// The line to the toolstack, where the machine has one.
    uart: Option<Uart<Com2>>,
    /// Domains that stop are told of here.
    domains: Option<Port>,
}

impl Program<Atoll> for Domain0 {
    fn start(&mut self, _: &mut Kernel<Atoll>) {
        self.control.start();
    }

    fn step(&mut self, _: &mut Kernel<Atoll>) -> Step {
        let Self { control, uart, .. } = self;
        let mut line_idle = true;
        if let Some(uart) = uart {
            uart.attend();
            while control.wants_input()
                && let Some(byte) = uart.receive()
            {
                control.receive(byte);
                // A request may have taken long, and the FIFO is short.
                uart.attend();
            }
            uart.send(|| control.transmit());
            line_idle = uart.is_idle();
        }
        match control.turn(line_idle) {
            Rest::None => Step::Busy,
            Rest::Until(None) => Step::Idle,
            Rest::Until(Some(tick)) => Step::IdleUntil(tick),
        }
    }

    fn event(&mut self, _: &mut Kernel<Atoll>, port: Port) {
        if self.domains == Some(port) {
            self.control.domains_changed();
        }
    }

    fn may_sleep(&mut self) -> bool {
        let received = match &mut self.uart {
            Some(uart) => {
                uart.attend();
                uart.has_received() && self.control.wants_input()
            }
            None => false,
        };
        !received && self.control.may_sleep()
    }
}

fn run(started: Started) -> ! {
    let Started { platform, handover, .. } = started;
    let uart = Uart::new(Com2::new());
    match &uart {
        None => say!("[control] there is no second serial port: nobody can give orders"),
        Some(_) => {
            if let Err(error) = machine::route_serial(SERIAL_VECTOR) {
                say!("[control] no interrupt from the second serial port: {error:?}");
            }
        }
    }
    let domains = hypercall::bind_virq(virq::DOM_EXC);
    if let Err(error) = domains {
        say!("[control] domains that stop will go unnoticed: {error:?}");
    }
    let control = Control::new(machine::Atoll, machine::archive(&handover));
    Kernel::new(platform, None, Pace::from_option(None)).run(&mut Domain0 {
        control,
        uart,
        domains: domains.ok(),
    })
}
