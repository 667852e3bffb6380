//! Domain 0: the control program at its serial port.
#![no_std]
#![no_main]

extern crate alloc;

use abi::xen::event_channel::{Port, virq};
use guest_kernel::control::atoll as machine;
use guest_kernel::control::serial::Uart;
use guest_kernel::control::{Control, Rest};
use guest_kernel::kernel::{Kernel, Pace, Program, Step};
use guest_kernel::platform::atoll::{Atoll, Started, hypercall};
use guest_kernel::say;
use uart_16550::backend::PioBackend;

guest_kernel::main!(run);

/// Where the serial port's interrupt comes in.
const SERIAL_VECTOR: u8 = 0x50;
/// Milliseconds between two looks at the serial port while something is to be sent, or where it cannot interrupt:
/// an interrupt that a machine loses must not be the end of a conversation.
const LOOK: u64 = 2;

struct Domain0 {
    control: Control<machine::Atoll>,
    /// The line to the toolstack, where the machine has one.
    uart: Option<Uart<PioBackend>>,
    /// The line interrupts.
    interrupts: bool,
    /// Domains that stop are told of here.
    domains: Option<Port>,
}

impl Program<Atoll> for Domain0 {
    fn start(&mut self, _: &mut Kernel<Atoll>) {
        self.control.start();
    }

    fn step(&mut self, kernel: &mut Kernel<Atoll>) -> Step {
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
        let Rest::Until(tick) = control.turn(line_idle) else { return Step::Busy };
        let look = uart.is_some() && (!line_idle || control.has_output() || !self.interrupts);
        match tick.into_iter().chain(look.then(|| kernel.after(LOOK))).min() {
            Some(tick) => Step::IdleUntil(tick),
            None => Step::Idle,
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
    let uart = machine::serial_port();
    let routed = machine::route_serial(SERIAL_VECTOR);
    match routed {
        _ if uart.is_none() => say!("[control] there is no second serial port: nobody can give orders"),
        Ok(()) => {}
        Err(error) => say!("[control] no interrupt from the second serial port: {error:?}"),
    }
    let domains = hypercall::bind_virq(virq::DOM_EXC);
    if let Err(error) = domains {
        say!("[control] domains that stop will go unnoticed: {error:?}");
    }
    let control = Control::new(machine::Atoll, machine::archive(&handover));
    let mut program = Domain0 { control, uart, interrupts: routed.is_ok(), domains: domains.ok() };
    Kernel::new(platform, None, Pace::from_option(None)).run(&mut program)
}
