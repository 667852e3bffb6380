//! The program goes over to another kernel on its core.

use serde::{Deserialize, Serialize};

use super::{Multikernel, State};
use crate::handover::{Carry, Refused};
use crate::kernel::{self, Kernel, Pace};
use crate::mesh::{self, Mesh, Window};
use crate::monitor::wire::Life;
use crate::platform::Platform;
use crate::tasks::Tasks;
use crate::tasks::desk::{self, Desk};

/// What goes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    kernel: kernel::Carried,
    mesh: mesh::Carried,
    desk: desk::Carried,
    state: State,
}

/// How far a kernel is that takes over: after each of these it may find that it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The package was read.
    Read,
    /// The mesh is there.
    Mesh,
    /// The monitor is there.
    Monitor,
    /// All is there, and nothing was said to anybody.
    Built,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Read, Self::Mesh, Self::Monitor, Self::Built];
}

impl Multikernel {
    /// From now on, or no longer, what goes on within this core comes to its end.
    pub fn drain(&mut self, drains: bool) {
        self.app.drains.set(drains);
    }

    /// Whether it has, so that this program can be carried.
    pub fn is_drained(&self) -> bool {
        self.comes_back.is_none() && self.app.state.borrow().is_drained()
    }

    /// The kernel and its program, as they are between two rounds; none without a mesh. Nothing changes by it.
    pub fn carry<P: Platform>(&self, kernel: &Kernel<P>) -> Option<Carried> {
        let mut state = self.app.state.borrow().clone();
        state.lines = self.app.lines.borrow().iter().cloned().collect();
        let (mesh, desk) = (kernel.mesh.as_ref()?.carry(), self.app.desk.carry());
        Some(Carried { kernel: kernel.carry(), mesh, desk, state })
    }

    /// A kernel and a program that go on where others stood. `window` gives the pages of a slot; `after` is asked at each
    /// stage whether to go on. Nothing is said to anybody before the first round.
    pub fn take_over<P: Platform>(
        carried: Carried,
        (platform, pace): (P, Pace),
        clock: impl Fn() -> u64 + 'static,
        window: impl FnMut(usize) -> &'static Window,
        mut after: impl FnMut(Stage) -> Result<(), Refused>,
    ) -> Result<(Kernel<P>, Self), Refused> {
        let Carried { kernel, mesh, desk, state } = carried;
        after(Stage::Read)?;
        let mesh = Mesh::take_over(&mesh, window).ok_or(Refused::Mesh)?;
        after(Stage::Mesh)?;
        let tasks = Tasks::new(clock);
        let me = u8::try_from(mesh.own_slot()).map_err(|_| Refused::Mesh)?;
        let place = (me, Life::from(mesh.own_domain()), mesh.slots());
        let desk = Desk::take_over(desk, place, tasks.spawner())?;
        after(Stage::Monitor)?;
        if !state.is_sound() {
            return Err(Refused::Program);
        }
        let program = Self::with_state(tasks, desk.clone(), state).map_err(|_| Refused::Crowded)?;
        desk.release();
        // It may have had something to say, or room to wait for.
        program.waits.set(true);
        let kernel = Kernel::take_over(kernel, platform, mesh, pace).ok_or(Refused::Program)?;
        after(Stage::Built)?;
        Ok((kernel, program))
    }
}
