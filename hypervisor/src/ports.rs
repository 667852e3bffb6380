//! A domain's event-channel ports: what each one is bound to. Pure; [`crate::events`] delivers.

use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::{Port as Number, virq};
use abi::xen::shared_info::EVTCHN_2L_PORTS;

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Port {
    /// Nothing.
    #[default]
    Closed,
    /// Waiting for this domain to bind.
    Unbound(DomId),
    /// The other end: its domain, the core that domain is on, its port.
    Interdomain {
        /// Domain.
        domain: DomId,
        /// Core.
        core: u8,
        /// Port there.
        port: u16,
    },
    /// A virtual interrupt.
    Virq(u8),
    /// The domain itself.
    Ipi,
}

/// All ports of one domain. Port 0 is never used.
#[derive(Debug)]
pub struct Ports {
    ports: [Port; EVTCHN_2L_PORTS as usize],
    virqs: [u16; virq::COUNT as usize],
}

impl Ports {
    /// All closed.
    pub const fn new() -> Self {
        Self { ports: [Port::Closed; EVTCHN_2L_PORTS as usize], virqs: [0; virq::COUNT as usize] }
    }

    /// What `number` is bound to. `EINVAL`: there is no such port.
    #[inline]
    pub fn get(&self, number: Number) -> Result<Port, Errno> {
        match self.ports.get(number as usize) {
            Some(port) if number != 0 => Ok(*port),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Binds the lowest closed port. `ENOSPC`: there is none.
    pub fn allocate(&mut self, port: Port) -> Result<Number, Errno> {
        let free =
            (1..self.ports.len()).find(|&number| self.ports[number] == Port::Closed).ok_or(Errno::ENOSPC)?;
        self.ports[free] = port;
        Ok(free as Number)
    }

    /// Binds a virtual interrupt to a new port. `EEXIST`: it has one.
    pub fn bind_virq(&mut self, number: u32) -> Result<Number, Errno> {
        let bound = *self.virqs.get(number as usize).ok_or(Errno::EINVAL)?;
        if bound != 0 {
            return Err(Errno::EEXIST);
        }
        let port = self.allocate(Port::Virq(number as u8))?;
        self.virqs[number as usize] = port as u16;
        Ok(port)
    }

    /// The port of a virtual interrupt.
    pub fn virq(&self, number: u32) -> Option<Number> {
        self.virqs.get(number as usize).copied().filter(|&port| port != 0).map(Number::from)
    }

    /// Joins an unbound port to its peer, who must be the one it waits for. `EINVAL`: it is not waiting for that one.
    pub fn join(&mut self, number: Number, domain: DomId, core: u8, port: Number) -> Result<(), Errno> {
        if self.get(number)? != Port::Unbound(domain) {
            return Err(Errno::EINVAL);
        }
        self.ports[number as usize] = Port::Interdomain { domain, core, port: port as u16 };
        Ok(())
    }

    /// The peer has closed its end: the port waits for that domain again. Nothing happens where it was not bound to
    /// just that end.
    pub fn part(&mut self, number: Number, domain: DomId, port: Number) {
        if matches!(self.get(number), Ok(Port::Interdomain { domain: d, port: p, .. }) if d == domain && Number::from(p) == port)
        {
            self.ports[number as usize] = Port::Unbound(domain);
        }
    }

    /// Closes a port, and tells what it was bound to. `EINVAL`: it was closed.
    pub fn close(&mut self, number: Number) -> Result<Port, Errno> {
        let was = self.get(number)?;
        match was {
            Port::Closed => return Err(Errno::EINVAL),
            Port::Virq(virq) => self.virqs[virq as usize] = 0,
            _ => {}
        }
        self.ports[number as usize] = Port::Closed;
        Ok(was)
    }

    /// The lowest port that is not closed.
    pub fn first_open(&self) -> Option<Number> {
        (1..self.ports.len())
            .find(|&number| self.ports[number] != Port::Closed)
            .map(|number| number as Number)
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_lives_and_dies() {
        let mut ports = Ports::new();
        assert_eq!(ports.get(0), Err(Errno::EINVAL));
        assert_eq!(ports.get(EVTCHN_2L_PORTS), Err(Errno::EINVAL));
        let port = ports.allocate(Port::Unbound(7)).unwrap();
        assert_eq!(port, 1);
        assert_eq!(ports.join(port, 8, 2, 5), Err(Errno::EINVAL));
        assert_eq!(ports.join(port, 7, 2, 5), Ok(()));
        assert_eq!(ports.join(port, 7, 2, 5), Err(Errno::EINVAL));
        ports.part(port, 7, 6);
        assert_eq!(ports.get(port), Ok(Port::Interdomain { domain: 7, core: 2, port: 5 }));
        ports.part(port, 7, 5);
        assert_eq!(ports.get(port), Ok(Port::Unbound(7)));
        assert_eq!(ports.close(port), Ok(Port::Unbound(7)));
        assert_eq!(ports.close(port), Err(Errno::EINVAL));
    }

    #[test]
    fn a_virq_has_one_port() {
        let mut ports = Ports::new();
        let port = ports.bind_virq(virq::DOM_EXC).unwrap();
        assert_eq!(ports.bind_virq(virq::DOM_EXC), Err(Errno::EEXIST));
        assert_eq!(ports.bind_virq(virq::COUNT), Err(Errno::EINVAL));
        assert_eq!(ports.virq(virq::DOM_EXC), Some(port));
        ports.close(port).unwrap();
        assert_eq!(ports.virq(virq::DOM_EXC), None);
    }

    #[test]
    fn ports_run_out() {
        let mut ports = Ports::new();
        for _ in 1..EVTCHN_2L_PORTS {
            ports.allocate(Port::Ipi).unwrap();
        }
        assert_eq!(ports.allocate(Port::Ipi), Err(Errno::ENOSPC));
        assert_eq!(ports.first_open(), Some(1));
    }
}
