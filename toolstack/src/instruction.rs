//! An instruction of a guest's, in words.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

/// The instruction that these bytes begin with. `None`: there are none, or code has no such width.
pub fn text(code: &[u8], bits: u8) -> Option<String> {
    let mut decoder = Decoder::try_new(bits.into(), code, DecoderOptions::NONE).ok()?;
    if code.is_empty() {
        return None;
    }
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        let bytes: String = code.iter().map(|byte| format!(" {byte:02x}")).collect();
        return Some(format!("no instruction that is known:{bytes}"));
    }
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    let mut text = String::new();
    formatter.format(&instruction, &mut text);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn instructions_in_words() {
        assert_eq!(text(b"\x0f\x08\x90", 64).unwrap(), "invd");
        assert_eq!(text(b"\xf3\x66\x6d", 16).unwrap(), "rep insd [di], dx");
        assert_eq!(text(b"\xf3\x6d", 16).unwrap(), "rep insw [di], dx");
        assert_eq!(text(b"\xa1\x20\0\xe0\xfe", 32).unwrap(), "mov eax, [0xfee00020]");
        assert_eq!(text(b"\xdd\x05\x20\0\xe0\xfe\xeb\xfe", 32).unwrap(), "fld st, qword ptr [0xfee00020]");
        assert!(text(b"\xff\xff", 64).unwrap().ends_with(": ff ff"));
        assert_eq!((text(b"", 64), text(b"\x90", 7)), (None, None));
    }
}
