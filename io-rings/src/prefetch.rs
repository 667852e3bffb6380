//! The one instruction that has no safe name: a hint to fetch a cache line.

/// Asks the processor to have the line of `wanted` near soon. It waits for nothing and concludes nothing: a load in its
/// place would have to arrive before the processor could finish what comes after.
#[inline]
pub fn prefetch<T>(wanted: &T) {
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads no value and faults at no address (SDM 2, "PREFETCHh"), and this one is a reference's.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(wanted).cast()) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
    let _ = wanted;
}
