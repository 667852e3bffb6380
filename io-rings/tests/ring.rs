//! Xen's ring against queues as its model, its layout byte by byte, and lies that it must notice.
#![cfg(not(loom))]

use std::collections::VecDeque;

use io_rings::PeerBroken;
use io_rings::hostile::{SharedPage, Word};
use io_rings::ring::{Back, Front, NoSlot, Protocol, Ring, Slots32, Slots64};
use proptest::prelude::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The size and shape of a block request: 112 bytes, and a response of 16.
#[derive(Debug)]
struct Block;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct BlockRequest {
    operation: u8,
    segments: u8,
    handle: u16,
    padding: u32,
    id: u64,
    sector: u64,
    segment: [[u32; 2]; 11],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct BlockResponse {
    id: u64,
    operation: u8,
    padding: u8,
    status: i16,
    more_padding: u32,
}

impl Protocol for Block {
    type Request = BlockRequest;
    type Response = BlockResponse;
    type Slots = Slots64<14, 32>;
}

fn request(id: u64) -> BlockRequest {
    let segment = core::array::from_fn(|n| [id as u32 + n as u32, n as u32]);
    BlockRequest { operation: 1, segments: 11, handle: 0x302, padding: 0, id, sector: id * 8, segment }
}

fn response(id: u64) -> BlockResponse {
    BlockResponse { id, operation: 1, padding: 0, status: -1, more_padding: 0 }
}

/// A network transmit ring's shape: 12 bytes a slot, a response of 4, which is no multiple of the request.
#[derive(Debug)]
struct Transmit;

impl Protocol for Transmit {
    type Request = [u16; 6];
    type Response = [u8; 3];
    type Slots = Slots32<3, 256>;
}

#[test]
fn the_layout_is_xens() {
    assert_eq!(size_of::<Ring<Block>>(), 64 + 32 * 112);
    assert_eq!(size_of::<Ring<Transmit>>(), 64 + 256 * 12);
    let ring = Ring::<Block>::new();
    let (mut front, mut back) = (Front::new(&ring), Back::new(&ring));
    for id in 0..3 {
        front.push_request(&request(id)).unwrap();
    }
    front.push_and_check_notify();
    for id in 0..2 {
        back.take_request().unwrap();
        back.push_response(&response(id)).unwrap();
    }
    back.push_and_check_notify();
    assert!(!back.final_check().is_ok_and(|more| !more), "the third request waits");
    back.take_request().unwrap();
    assert_eq!(back.final_check(), Ok(false));
    let words: Vec<u64> = ring.words().map(Word::get).collect();
    assert_eq!(words[..4], [3, 4, 2, 1], "req_prod, req_event, rsp_prod, rsp_event");
    assert_eq!(words[4..16], [0; 12]);
    assert_eq!(words[16..18], [0, 0xffff_0001], "response 0 in slot 0");
    assert_eq!(words[16 + 2 * 14..][..3], [0x0302_0b01, 2, 16], "request 2 in slot 2");
}

#[test]
fn a_full_ring_refuses_and_an_answer_needs_a_question() {
    let ring = Ring::<Transmit>::new();
    let (mut front, mut back) = (Front::new(&ring), Back::new(&ring));
    assert_eq!(back.push_response(&[1, 2, 3]), Err(NoSlot));
    let batch = [[1u16, 2, 3, 4, 5, 6]; 300];
    assert_eq!(front.push_requests(&batch), 256);
    assert_eq!(front.push_request(&batch[0]), Err(NoSlot));
    assert_eq!(back.take_request(), Ok(None), "not published");
    assert!(front.push_and_check_notify());
    assert_eq!(back.take_request(), Ok(Some(batch[0])));
    assert_eq!(back.owed(), 1);
    back.push_response(&[7, 8, 9]).unwrap();
    assert_eq!(front.take_response(), Ok(None), "not published");
    assert!(back.push_and_check_notify());
    assert_eq!(front.take_response(), Ok(Some([7, 8, 9])));
    assert_eq!(front.free_requests(), 1);
}

#[test]
fn only_who_asked_is_notified() {
    let ring = Ring::<Block>::new();
    let (mut front, mut back) = (Front::new(&ring), Back::new(&ring));
    assert!(!front.push_and_check_notify(), "nothing was put");
    front.push_request(&request(0)).unwrap();
    assert!(front.push_and_check_notify(), "a fresh ring asks for the first");
    front.push_request(&request(1)).unwrap();
    assert!(!front.push_and_check_notify(), "the back end is at work already");
    assert_eq!(back.final_check(), Ok(true));
    assert_eq!(back.take_request(), Ok(Some(request(0))));
    assert_eq!(back.take_request(), Ok(Some(request(1))));
    assert_eq!(back.final_check(), Ok(false));
    front.push_request(&request(2)).unwrap();
    front.push_request(&request(3)).unwrap();
    assert!(front.push_and_check_notify(), "a batch that holds the asked index");
}

/// The index word `place` (0 `req_prod`, 2 `rsp_prod`) after five requests and three responses, set to `lie`.
fn after_lie(place: usize, lie: u32) -> (Result<(), PeerBroken>, Result<(), PeerBroken>) {
    let ring = Ring::<Block>::new();
    let (mut front, mut back) = (Front::new(&ring), Back::new(&ring));
    for id in 0..5 {
        front.push_request(&request(id)).unwrap();
    }
    front.push_and_check_notify();
    while let Some(got) = back.take_request().unwrap() {
        if got.id < 3 {
            back.push_response(&response(got.id)).unwrap();
        }
    }
    back.push_and_check_notify();
    while front.take_response().unwrap().is_some() {}
    ring.words().nth(place).unwrap().set(lie.into());
    let seen = (front.final_check().map(drop), back.final_check().map(drop));
    ring.words().nth(place).unwrap().set(if place == 0 { 5 } else { 3 });
    assert_eq!((front.final_check().map(drop), back.final_check().map(drop)), seen, "for good");
    seen
}

#[test]
fn a_producer_that_overflows_or_goes_back_is_broken() {
    for honest in [5, 6, 35] {
        assert_eq!(after_lie(0, honest), (Ok(()), Ok(())));
    }
    for lie in [36, 4, 0, u32::MAX, 1 << 31] {
        assert_eq!(after_lie(0, lie), (Ok(()), Err(PeerBroken)), "req_prod {lie}");
    }
    for honest in [3, 4, 5] {
        assert_eq!(after_lie(2, honest), (Ok(()), Ok(())));
    }
    for lie in [6, 2, 0, 35, u32::MAX] {
        assert_eq!(after_lie(2, lie), (Err(PeerBroken), Ok(())), "rsp_prod {lie}");
    }
}

proptest! {
    /// Any interleaving does what two queues do, and notifies exactly when the other side asked.
    #[test]
    fn behaves_as_two_queues(steps in proptest::collection::vec((0u8..8, 1usize..40), 0..600)) {
        let ring = Ring::<Block>::new();
        let (mut front, mut back) = (Front::new(&ring), Back::new(&ring));
        let (mut requests, mut taken, mut responses) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        let (mut id, mut back_asked, mut front_asked) = (0, true, true);
        for (step, count) in steps {
            match step {
                0..=1 => {
                    let batch: Vec<_> = (id..id + count as u64).map(request).collect();
                    let put = front.push_requests(&batch);
                    let room = 32 - requests.len() - taken.len() - responses.len();
                    prop_assert_eq!(put, room.min(count));
                    id += put as u64;
                    requests.extend(&batch[..put]);
                    prop_assert_eq!(front.push_and_check_notify(), back_asked && put > 0);
                    back_asked &= put == 0;
                }
                2..=3 => for _ in 0..count {
                    let got = back.take_request().unwrap();
                    prop_assert_eq!(got, requests.pop_front());
                    taken.extend(got);
                },
                4..=5 => {
                    let put = taken.drain(..count.min(taken.len())).map(|request| response(request.id));
                    let put: Vec<_> = put.collect();
                    for answer in &put {
                        prop_assert_eq!(back.push_response(answer), Ok(()));
                    }
                    prop_assert_eq!(back.owed() as usize, taken.len());
                    prop_assert_eq!(back.push_and_check_notify(), front_asked && !put.is_empty());
                    front_asked &= put.is_empty();
                    responses.extend(put);
                }
                6 => for _ in 0..count {
                    prop_assert_eq!(front.take_response().unwrap(), responses.pop_front());
                },
                _ => {
                    prop_assert_eq!(back.final_check().unwrap(), !requests.is_empty());
                    back_asked |= requests.is_empty();
                    prop_assert_eq!(front.final_check().unwrap(), !responses.is_empty());
                    front_asked |= responses.is_empty();
                }
            }
        }
    }
}
