//! Bytes as a sequence of accesses.

/// A step, in eight bytes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What is done.
    pub what: u8,
    /// Where: a port's number, or how far it is from the device's first.
    pub place: u16,
    /// With what value.
    pub value: u32,
    /// How long after the last: a power of two.
    pub wait: u8,
}

impl Step {
    /// As bytes.
    pub fn bytes(self) -> [u8; 8] {
        let ([p0, p1], [v0, v1, v2, v3]) = (self.place.to_le_bytes(), self.value.to_le_bytes());
        [self.what, p0, p1, v0, v1, v2, v3, self.wait]
    }

    fn from(bytes: &[u8; 8]) -> Self {
        let &[what, p0, p1, v0, v1, v2, v3, wait] = bytes;
        let (place, value) = (u16::from_le_bytes([p0, p1]), u32::from_le_bytes([v0, v1, v2, v3]));
        Self { what, place, value, wait }
    }

    pub(crate) fn byte(self) -> u8 {
        self.value as u8
    }
}

/// The steps that bytes are, each with its time.
pub(crate) fn steps(bytes: &[u8]) -> impl Iterator<Item = (Step, u64)> {
    let mut now = 0u64;
    bytes.as_chunks::<8>().0.iter().map(move |chunk| {
        let step = Step::from(chunk);
        // Up to some hours at once.
        now += 1 << (step.wait % 44) >> 1;
        (step, now)
    })
}
