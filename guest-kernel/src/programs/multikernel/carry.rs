//! The program goes over to another kernel on its core.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::frames::Pages;
use super::{Multikernel, State};
use crate::handover::{Carry, Refused, pack, unpack};
use crate::kernel::{self, Kernel, Pace};
use crate::mesh::{self, Mesh, Window};
use crate::monitor::wire::Life;
use crate::platform::{Handed, Platform};
use crate::tasks::Tasks;
use crate::tasks::desk::{self, Desk};

/// What goes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    kernel: kernel::Carried,
    mesh: mesh::Carried,
    desk: desk::Carried,
    state: State,
    /// Of the frames that are mapped, page by page.
    contents: Vec<Vec<u64>>,
}

/// What a kernel that takes over finds, and is not handed.
pub struct Core<P> {
    /// The core.
    pub platform: P,
    /// How it waits.
    pub pace: Pace,
    /// Its page tables.
    pub pages: Rc<dyn Pages>,
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

    /// What it is called at the console.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Mesh => "mesh",
            Self::Monitor => "monitor",
            Self::Built => "built",
        }
    }
}

/// How a kernel that takes over is to fail, to see that the old one goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fails {
    /// It does not.
    #[default]
    Never,
    /// It finds that it cannot go on.
    At(Stage),
    /// It is handed what was not written: another byte at this place.
    Damaged(usize),
}

impl Fails {
    /// What the console calls it.
    pub(super) fn named(name: &str) -> Option<Self> {
        let stage = Stage::ALL.into_iter().find(|stage| stage.name() == name).map(Self::At);
        stage.or((name == "damaged").then_some(Self::Damaged(4096)))
    }
}

impl Multikernel {
    /// From now on, or no longer, what goes on within this core comes to its end.
    pub(super) fn drain(&mut self, drains: bool) {
        self.app.drains.set(drains);
    }

    /// Whether another kernel is to take over now.
    pub fn is_to_be_replaced(&self) -> bool {
        self.app.successor.get().is_some() && self.is_drained()
    }

    /// Another kernel takes over, or this one goes on if that fails. On the same core, in the same memory, of the same image:
    /// what is handed over is bytes all the same, and read by a kernel that knows nothing else.
    pub fn replace<P: Handed>(
        kernel: &mut Kernel<P>,
        program: &mut Self,
        clock: impl Fn() -> u64 + 'static,
    ) -> Result<(), Refused> {
        let begun = kernel.platform.now();
        let fails = program.app.successor.take().unwrap_or_default();
        let result = Self::succeed(kernel, program, clock, fails);
        match result {
            Ok(bytes) => {
                let ticks = kernel.platform.now().saturating_sub(begun);
                program.app.say(&format!("replace: took over, {bytes} bytes, {ticks} ticks"));
            }
            Err(refused) => {
                program.drain(false);
                program.app.say(&format!("replace: refused: {refused:?}; the old kernel goes on"));
            }
        }
        result.map(drop)
    }

    /// Puts a new kernel and its program in the place of the old ones; how many bytes were handed over.
    fn succeed<P: Handed>(
        kernel: &mut Kernel<P>,
        program: &mut Self,
        clock: impl Fn() -> u64 + 'static,
        fails: Fails,
    ) -> Result<usize, Refused> {
        let mut package = pack(&program.carry(kernel).ok_or(Refused::Mesh)?);
        if let Fails::Damaged(at) = fails {
            let at = at.checked_rem(package.len()).unwrap_or(0);
            package.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x10);
        }
        let after =
            |stage| if fails == Fails::At(stage) { Err(Refused::Failed(stage.name())) } else { Ok(()) };
        let (platform, mesh) = (kernel.platform.same_core(), &kernel.mesh);
        let window = |slot| mesh.as_ref()?.window(slot);
        let core = Core { platform, pace: kernel.pace, pages: program.app.pages.clone() };
        let (mut new, new_program) = Self::take_over(unpack(&package)?, core, clock, window, after)?;
        // The ring with xenstore knows by itself how far it is, and what was asked there is asked by the kernel alone.
        new.store = kernel.store.take();
        *kernel = new;
        *program = new_program;
        Ok(package.len())
    }

    /// Whether it has, so that this program can be carried.
    pub fn is_drained(&self) -> bool {
        self.comes_back.is_none() && self.app.state.borrow().is_drained()
    }

    /// The kernel and its program, as they are between two rounds; none without a mesh. Nothing that others see changes by it.
    pub fn carry<P: Platform>(&self, kernel: &Kernel<P>) -> Option<Carried> {
        self.app.take_out();
        let mut state = self.app.state.borrow().clone();
        state.lines = self.app.lines.borrow().iter().cloned().collect();
        let (mesh, desk) = (kernel.mesh.as_ref()?.carry(), self.app.desk.carry());
        Some(Carried { kernel: kernel.carry(), mesh, desk, state, contents: self.app.contents() })
    }

    /// A kernel and a program that go on where others stood. `window` gives the pages of a slot; `after` is asked at each
    /// stage whether to go on. Nothing is said to anybody before the first round.
    pub fn take_over<P: Platform>(
        carried: Carried,
        core: Core<P>,
        clock: impl Fn() -> u64 + 'static,
        window: impl FnMut(usize) -> Option<&'static Window>,
        mut after: impl FnMut(Stage) -> Result<(), Refused>,
    ) -> Result<(Kernel<P>, Self), Refused> {
        let Carried { kernel, mesh, desk, state, contents } = carried;
        after(Stage::Read)?;
        let mesh = Mesh::take_over(&mesh, window).ok_or(Refused::Mesh)?;
        after(Stage::Mesh)?;
        let tasks = Tasks::new(clock);
        let me = u8::try_from(mesh.own_slot()).map_err(|_| Refused::Mesh)?;
        let place = (me, Life::from(mesh.own_domain()), mesh.slots());
        let desk = Desk::take_over(desk, place, tasks.spawner())?;
        desk.reach(&mesh);
        after(Stage::Monitor)?;
        if !state.is_sound() {
            return Err(Refused::Program);
        }
        let program =
            Self::with_state(tasks, desk.clone(), state, core.pages).map_err(|_| Refused::Crowded)?;
        if !program.app.put_back(&contents) {
            return Err(Refused::Program);
        }
        desk.release();
        // It may have had something to say, or room to wait for.
        program.waits.set(true);
        let kernel = Kernel::take_over(kernel, core.platform, mesh, core.pace).ok_or(Refused::Program)?;
        after(Stage::Built)?;
        Ok((kernel, program))
    }
}
