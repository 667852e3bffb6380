//! Packages that are whole, damaged, of another format, or none.

use alloc::string::String;

use proptest::prelude::*;

use super::*;

type Sample = (u64, String, Vec<u32>);

proptest! {
    #[test]
    fn what_was_packed_comes_out_whatever_is_behind_it(sample: Sample, behind: Vec<u8>) {
        let mut bytes = pack(&sample);
        bytes.extend(behind);
        prop_assert_eq!(unpack::<Sample>(&bytes), Ok(sample));
    }

    #[test]
    fn a_bit_that_is_not_as_it_was_is_noticed(sample: Sample, at: prop::sample::Index, bit in 0..8_u32) {
        let mut bytes = pack(&sample);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let refused = unpack::<Sample>(&bytes).unwrap_err();
        match at {
            0..8 => prop_assert_eq!(refused, Refused::NoPackage),
            8..12 => prop_assert_eq!(refused, Refused::Version(VERSION ^ 1 << (8 * (at as u32 - 8) + bit))),
            _ => prop_assert_eq!(refused, Refused::Damaged),
        }
    }

    #[test]
    fn half_a_package_is_none(sample: Sample, cut: prop::sample::Index) {
        let bytes = pack(&sample);
        prop_assert!(unpack::<Sample>(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn noise_is_refused(noise: Vec<u8>) {
        prop_assert!(unpack::<Sample>(&noise).is_err());
    }
}
