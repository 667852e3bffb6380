//! The boot archive, as [`abi::archive`] describes it.

use alloc::vec::Vec;

use abi::archive::{CONFIG, IMAGES};
use boot::archive::files;

/// What lies in the archive, by name.
#[derive(Debug, Default)]
pub struct Archive<'a> {
    files: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Archive<'a> {
    /// The archive in these bytes.
    pub fn read(bytes: &'a [u8]) -> Self {
        Self { files: files(bytes).collect() }
    }

    /// The machine's configuration, as the toolstack wrote it.
    pub fn config(&self) -> Option<&'a [u8]> {
        self.find(|name| name == CONFIG)
    }

    /// The guest image of this name.
    pub fn image(&self, image: &str) -> Option<&'a [u8]> {
        self.find(|name| name.strip_prefix(IMAGES) == Some(image))
    }

    /// The names of all guest images.
    pub fn images(&self) -> impl Iterator<Item = &'a str> {
        self.files.iter().filter_map(|(name, _)| name.strip_prefix(IMAGES))
    }

    fn find(&self, is: impl Fn(&str) -> bool) -> Option<&'a [u8]> {
        self.files.iter().find(|(name, _)| is(name)).map(|(_, file)| *file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    /// An archive as the toolstack's tool makes it.
    fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let inputs = files.iter().map(|(name, bytes)| {
            (cpio::newc::Builder::new(name).mode(0o100_644), std::io::Cursor::new(bytes.clone()))
        });
        cpio::write_cpio(inputs, Vec::new()).unwrap()
    }

    proptest! {
        #[test]
        fn what_was_packed_is_found(
            config in proptest::collection::vec(any::<u8>(), 0..50),
            image in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let packed = archive(&[
                ("control".into(), b"an ELF".to_vec()),
                ("config".into(), config.clone()),
                ("images/hello".into(), image.clone()),
            ]);
            let read = Archive::read(&packed);
            prop_assert_eq!(read.config(), Some(&config[..]));
            prop_assert_eq!(read.image("hello"), Some(&image[..]));
            prop_assert_eq!(read.image("control"), None);
            prop_assert_eq!(read.images().collect::<Vec<_>>(), ["hello"]);
        }

        #[test]
        fn damage_never_panics(at: proptest::sample::Index, byte: u8, cut: proptest::sample::Index) {
            let mut packed = archive(&[("images/a".into(), b"1234567".to_vec()), ("config".into(), b"c".to_vec())]);
            let length = packed.len();
            packed[at.index(length)] = byte;
            packed.truncate(cut.index(length));
            for name in Archive::read(&packed).images() {
                prop_assert!(name.len() < length);
            }
        }
    }

    #[test]
    fn sizes_at_the_end_of_the_number_range_are_lies() {
        let mut packed = archive(&[("images/a".into(), b"1".to_vec())]);
        // File's and name's sizes: the seventh and the twelfth number behind the magic.
        for at in [6 + 6 * 8, 6 + 11 * 8] {
            packed[at..at + 8].copy_from_slice(b"ffffffff");
            assert_eq!(Archive::read(&packed).images().count(), 0);
        }
    }
}
