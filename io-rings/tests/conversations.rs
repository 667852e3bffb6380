//! Typed sessions and calls over channels.
#![cfg(not(loom))]

use io_rings::PeerBroken;
use io_rings::rpc::{Caller, Server, WIDEST};
use io_rings::session::{Again, End, Failed, Mailbox, Named, Recv, Send, Session};
use io_rings::urpc::{ChannelPage, Receiver, SLOTS, SendError, Sender};

type Ask = Send<u64, Recv<[u64; 2], End>>;

#[test]
fn a_full_channel_gives_value_and_end_back() {
    let (there, back) = (ChannelPage::new(), ChannelPage::new());
    let mut wire = (Sender::new(&there), Receiver::new(&back));
    while wire.0.try_send(&[0; 7]).is_ok() {}
    let session = Session::<Ask, _>::new(wire);
    let Err(Failed::NotYet((7, session))) = session.send(7) else { panic!("there was room") };
    let mut reader = Receiver::new(&there);
    (0..SLOTS).for_each(|_| assert_eq!(reader.try_receive(), Ok(Some([0; 7]))));
    let session = session.send(7).unwrap();
    assert_eq!(reader.try_receive(), Ok(Some([7, 0, 0, 0, 0, 0, 0])));
    assert!(matches!(session.receive(), Err(Failed::NotYet(_))), "nobody has answered");
}

#[test]
fn what_is_no_such_value_breaks_the_rules() {
    let (there, back) = (ChannelPage::new(), ChannelPage::new());
    let session = Session::<Ask, _>::new((Sender::new(&there), Receiver::new(&back)));
    let session = session.send(1).unwrap();
    Sender::new(&back).try_send(&[1, 2, 3, 0, 0, 0, 0]).unwrap();
    assert!(matches!(session.receive(), Err(Failed::PeerBroken)), "a pair has no third");
}

#[derive(Debug)]
struct Counting;

impl Named for Counting {
    type Round = Send<u64, Recv<u64, Again<Counting>>>;
}

#[test]
fn a_conversation_that_goes_round() {
    let (there, back) = (ChannelPage::new(), ChannelPage::new());
    let mut client = Session::<Again<Counting>, _>::new((Sender::new(&there), Receiver::new(&back)));
    let mut server = client.dual((Sender::new(&back), Receiver::new(&there)));
    for round in 0..1000 {
        let asked = client.again().send(round).unwrap();
        let (question, heard) = server.again().receive().unwrap();
        server = heard.send(question + 1).unwrap();
        let (answer, next) = asked.receive().unwrap();
        assert_eq!(answer, round + 1);
        client = next;
    }
}

#[test]
fn a_buffer_moves_and_is_not_copied() {
    type Lend = Send<Vec<u8>, Recv<(Vec<u8>, usize), End>>;
    let (there, back) = (Mailbox::new(), Mailbox::new());
    let client = Session::<Lend, _>::new((&there, &back));
    let server = client.dual((&back, &there));
    let buffer = vec![7; 4096];
    let place = buffer.as_ptr();
    let client = client.send(buffer).unwrap();
    let (buffer, server) = server.receive().unwrap();
    server.send((buffer, 12)).unwrap().close();
    let ((buffer, used), client) = client.receive().unwrap();
    client.close();
    assert_eq!((buffer.as_ptr(), used), (place, 12));
}

#[test]
fn calls_are_answered_each_once_whatever_the_window() {
    for window in [1, 3, 16, WIDEST, WIDEST + 9] {
        let (there, back) = (ChannelPage::new(), ChannelPage::new());
        let mut caller = Caller::new(Sender::new(&there), Receiver::new(&back), window);
        let mut server = Server::new(Receiver::new(&there), Sender::new(&back));
        let (mut called, mut answered, mut waiting) = (0_u64, 0, std::collections::BTreeMap::new());
        while answered < 5000 {
            while let Ok(id) = caller.call(&[called, 0, 0, 0, 0, 0]) {
                assert_eq!(waiting.insert(id, called), None, "one number, one call");
                called += 1;
            }
            assert!(waiting.len() <= window);
            assert!(server.serve(1 + called as usize % 20, |body| [body[0] * 3, 0, 0, 0, 0, 0]).unwrap() > 0);
            while let Some((id, body)) = caller.answer().unwrap() {
                assert_eq!(waiting.remove(&id).map(|call| call * 3), Some(body[0]));
                answered += 1;
            }
        }
    }
}

#[test]
fn an_answer_that_nobody_waits_for_breaks_the_rules() {
    for lie in [0, 1, 63, 64, u64::MAX] {
        let (there, back) = (ChannelPage::new(), ChannelPage::new());
        let mut caller = Caller::new(Sender::new(&there), Receiver::new(&back), 2);
        let mut liar = Sender::new(&back);
        caller.call(&[0; 6]).unwrap();
        liar.try_send(&[0; 7]).unwrap();
        assert!(caller.answer().unwrap().is_some());
        liar.try_send(&[lie, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(caller.answer(), Err(PeerBroken), "{lie}");
        assert_eq!(caller.answer(), Err(PeerBroken), "for good");
    }
}

#[test]
fn a_caller_that_takes_no_answers_is_found_out() {
    let (there, back) = (ChannelPage::new(), ChannelPage::new());
    let (mut liar, mut server) =
        (Sender::new(&there), Server::new(Receiver::new(&there), Sender::new(&back)));
    let mut found = false;
    for _ in 0..3 * SLOTS {
        if liar.try_send(&[0; 7]) == Err(SendError::Full) {
            break;
        }
        found |= server.serve(1, |body| *body).is_err();
    }
    assert!(found);
}
