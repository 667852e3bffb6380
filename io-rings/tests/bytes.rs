//! The byte rings against queues as their model, their layout, and indices that lie.
#![cfg(not(loom))]

use std::collections::VecDeque;

use io_rings::bytes::{ConsolePage, XenstorePage};
use io_rings::hostile::{SharedPage, Word};
use proptest::prelude::*;

/// The four indices come first among the words.
fn indices(page: &impl SharedPage) -> Vec<u64> {
    page.words().take(4).map(Word::get).collect()
}

fn set_index(page: &impl SharedPage, place: usize, value: u32) {
    page.words().nth(place).unwrap().set(value.into());
}

#[test]
fn the_console_goes_both_ways() {
    let page = ConsolePage::new();
    let ((mut keys, mut screen), (mut print, mut typed)) = (page.guest(), page.back());
    assert_eq!(screen.write(b"hello"), 5);
    assert_eq!(typed.write(b"ls\n"), 3);
    assert_eq!(indices(&page), [0, 3, 0, 5], "in_cons, in_prod, out_cons, out_prod");
    let mut bytes = [0; 8];
    assert_eq!(print.read(&mut bytes), 5);
    assert_eq!(&bytes[..5], b"hello");
    assert_eq!(keys.read(&mut bytes[..2]), 2);
    assert_eq!(&bytes[..2], b"ls");
    assert_eq!(indices(&page), [2, 3, 5, 5]);
    assert_eq!((screen.room(), typed.room()), (2048, 1023));
}

#[test]
fn the_store_goes_both_ways() {
    let page = XenstorePage::new();
    let ((mut responses, mut requests), (mut asked, mut answer)) = (page.guest(), page.back());
    assert_eq!(requests.write(&[7; 2000]), 1024);
    assert_eq!(answer.write(&[9; 16]), 16);
    assert_eq!(indices(&page), [0, 1024, 0, 16], "req_cons, req_prod, rsp_cons, rsp_prod");
    let mut bytes = [0; 2000];
    assert_eq!(asked.read(&mut bytes), 1024);
    assert_eq!(responses.read(&mut bytes), 16);
    assert_eq!(bytes[15..17], [9, 7]);
}

#[test]
fn the_store_begins_anew() {
    let page = XenstorePage::new();
    page.guest().1.write(b"half a request");
    page.back().1.write(b"half an answer");
    page.offer(3);
    page.set_error(2);
    page.set_connection(1);
    page.begin_anew(0);
    assert_eq!((page.features(), page.connection(), page.error()), (3, 0, 0));
    assert_eq!(indices(&page), [0; 4]);
    assert_eq!((page.guest().0.available(), page.back().0.available()), (0, 0));
}

#[test]
fn a_back_end_that_attaches_late_reads_from_the_start() {
    let page = ConsolePage::new();
    page.guest().1.write(b"early");
    let (mut print, _) = page.back();
    let mut bytes = [0; 8];
    assert_eq!(print.read(&mut bytes), 5);
    assert_eq!(page.guest().1.write(b"again"), 5);
    assert_eq!(indices(&page), [0, 0, 5, 10]);
}

#[test]
fn a_page_that_is_reset_holds_nothing_of_before() {
    let page = ConsolePage::new();
    page.guest().1.write(b"old");
    page.back().1.write(b"old keys");
    page.reset();
    assert!(page.words().all(|word| word.get() == 0));
    assert_eq!((page.guest().0.available(), page.back().0.available()), (0, 0));
}

#[test]
fn indices_wrap() {
    let page = ConsolePage::new();
    for place in [2, 3] {
        set_index(&page, place, u32::MAX - 2);
    }
    let ((_, mut screen), (mut print, _)) = (page.guest(), page.back());
    assert_eq!(screen.write(b"across"), 6);
    assert_eq!(indices(&page)[3], 3);
    let mut bytes = [0; 8];
    assert_eq!(print.read(&mut bytes), 6);
    assert_eq!(&bytes[..6], b"across");
    assert_eq!(screen.room(), 2048);
}

#[test]
fn lying_indices_end_the_stream() {
    for lie in [2049, 4, u32::MAX, 1 << 31] {
        let page = ConsolePage::new();
        let ((_, mut screen), (mut print, _)) = (page.guest(), page.back());
        screen.write(b"0123456789");
        assert_eq!(print.available(), 10);
        set_index(&page, 3, lie);
        assert_eq!(print.read(&mut [0; 8]), 0, "out_prod {lie}");
        assert!(print.broken());
        set_index(&page, 3, 10);
        assert_eq!(print.available(), 0, "for good");
    }
    for lie in [11, 4, u32::MAX, 1 << 31] {
        let page = ConsolePage::new();
        let ((_, mut screen), (mut print, _)) = (page.guest(), page.back());
        screen.write(b"0123456789");
        print.read(&mut [0; 5]);
        assert_eq!(screen.room(), 2043);
        set_index(&page, 2, lie);
        assert_eq!(screen.write(b"more"), 0, "out_cons {lie}");
        assert!(screen.broken());
        assert_eq!(indices(&page)[3], 10, "nothing moved");
    }
}

proptest! {
    /// Any interleaving of reads and writes of any length, from any starting index, does what a queue does.
    #[test]
    fn behaves_as_a_queue(start: u32, steps in proptest::collection::vec((any::<bool>(), 0usize..3000), 0..100)) {
        let page = ConsolePage::new();
        for place in [2, 3] {
            set_index(&page, place, start);
        }
        let ((_, mut writer), (mut reader, _)) = (page.guest(), page.back());
        let (mut model, mut next) = (VecDeque::new(), 0u64);
        for (write, length) in steps {
            if write {
                let bytes: Vec<u8> = (next..).map(|n| (n * n / 3) as u8).take(length).collect();
                prop_assert_eq!(writer.room(), 2048 - model.len());
                let count = writer.write(&bytes);
                prop_assert_eq!(count, length.min(2048 - model.len()));
                model.extend(&bytes[..count]);
                next += count as u64;
            } else {
                let mut bytes = vec![0; length];
                prop_assert_eq!(reader.available(), model.len());
                let count = reader.read(&mut bytes);
                let expected: Vec<u8> = model.drain(..length.min(model.len())).collect();
                prop_assert_eq!(&bytes[..count], &expected[..]);
            }
        }
    }
}
