//! Frames taken before a change begins, so that it cannot fail half-way.
//!
//! The frames are strung together through their own first entries: a reserve of any size needs no memory elsewhere.

use abi::address::HostPhys;

use crate::error::MapError;
use crate::frames::Frames;

/// Marks a link to another frame, so that frame 0 is not taken for the end. No table is linked while it carries one.
const LINK: u64 = 1;

/// A stack of unused, otherwise zeroed frames.
pub(crate) struct Reserve {
    top: Option<HostPhys>,
}

impl Reserve {
    pub(crate) const fn new() -> Self {
        Self { top: None }
    }

    /// Adds `count` frames from the allocator.
    pub(crate) fn add<F: Frames>(&mut self, frames: &mut F, count: usize) -> Result<(), MapError> {
        for _ in 0..count {
            let frame = frames.allocate().ok_or(MapError::OutOfFrames)?;
            frames.write(frame, 0, self.top.map_or(0, |below| below.as_u64() | LINK));
            self.top = Some(frame);
        }
        Ok(())
    }

    /// A zeroed frame for a table. Every caller has reserved what it takes: the error is there for the type alone.
    pub(crate) fn take<F: Frames>(&mut self, frames: &mut F) -> Result<HostPhys, MapError> {
        let frame = self.top.ok_or(MapError::OutOfFrames)?;
        let link = frames.read(frame, 0);
        self.top = (link & LINK != 0).then(|| HostPhys::new(link & !LINK));
        frames.write(frame, 0, 0);
        Ok(frame)
    }

    /// Gives back what was not used.
    pub(crate) fn release<F: Frames>(mut self, frames: &mut F) {
        while let Ok(frame) = self.take(frames) {
            frames.free(frame);
        }
    }
}
