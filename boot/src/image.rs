//! Where the running image lies, by the symbols of `boot/link.ld`.

/// The image's parts in memory, each on pages of its own.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// First byte of code.
    pub text: u64,
    /// First byte of constants, behind the code.
    pub rodata: u64,
    /// First byte of data, behind the constants.
    pub data: u64,
    /// The page below the boot stack, which nothing may touch.
    pub stack_guard: u64,
    /// First byte behind the image.
    pub end: u64,
}

/// The layout of this very image.
#[cfg(feature = "bare")]
pub fn layout() -> Layout {
    unsafe extern "C" {
        static image_start: u8;
        static image_rodata: u8;
        static image_data: u8;
        static boot_stack_guard: u8;
        static image_end: u8;
    }
    Layout {
        text: &raw const image_start as u64,
        rodata: &raw const image_rodata as u64,
        data: &raw const image_data as u64,
        stack_guard: &raw const boot_stack_guard as u64,
        end: &raw const image_end as u64,
    }
}
