//! Messages between two cores: one at a time, there and back, and as many as there is room for. After Baumann and others, *The
//! Multikernel* (SOSP 2009), Table 2.
//!
//! Each function is one side's part. None: the channel is broken.

use io_rings::urpc::{ChannelPage, Message, Receiver, SendError, Sender};

use super::pause;

/// Asks so often, one question after the answer to the last.
pub fn ask(there: &ChannelPage, back: &ChannelPage, rounds: u64) -> Option<()> {
    let (mut ask, mut hear) = (Sender::new(there), Receiver::new(back));
    for number in 0..rounds {
        ask.try_send(&[number, 0, 0, 0, 0, 0, 0]).ok()?;
        wait(&mut hear)?;
    }
    Some(())
}

/// Answers so often.
pub fn answer(there: &ChannelPage, back: &ChannelPage, rounds: u64) -> Option<()> {
    let (mut hear, mut answer) = (Receiver::new(there), Sender::new(back));
    for _ in 0..rounds {
        let message = wait(&mut hear)?;
        answer.try_send(&message).ok()?;
    }
    Some(())
}

/// Sends so many, each as soon as there is room.
pub fn send(channel: &ChannelPage, count: u64) -> Option<()> {
    let mut sender = Sender::new(channel);
    for number in 0..count {
        while let Err(error) = sender.try_send(&[number, 0, 0, 0, 0, 0, 0]) {
            if error == SendError::PeerBroken {
                return None;
            }
            pause();
        }
    }
    Some(())
}

/// Receives so many.
pub fn receive(channel: &ChannelPage, count: u64) -> Option<()> {
    let mut receiver = Receiver::new(channel);
    for _ in 0..count {
        wait(&mut receiver)?;
    }
    Some(())
}

fn wait(receiver: &mut Receiver<'_>) -> Option<Message> {
    loop {
        match receiver.try_receive().ok()? {
            Some(message) => return Some(message),
            None => pause(),
        }
    }
}
