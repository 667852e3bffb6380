//! A guest's console, read without gaps: what was printed before, and what is printed from now on.

use std::time::Duration;

use abi::control::wire::{Event, MAX_KEPT, MAX_TEXT, Text};

use super::Client;
use crate::error::Result;

/// A reader of one guest's console.
pub struct Console<'client> {
    client: &'client Client,
    name: String,
    /// Behind the last byte that was read; `None`: the guest's present life, from its first byte on.
    position: Option<u64>,
}

impl<'client> Console<'client> {
    /// A reader that begins with the first byte of the guest's present life.
    pub fn new(client: &'client Client, name: &str) -> Self {
        Self { client, name: name.to_owned(), position: None }
    }

    /// A reader that begins with the oldest byte there is, be it from before the guest was restarted.
    pub fn with_history(client: &'client Client, name: &str) -> Self {
        Self { client, name: name.to_owned(), position: Some(0) }
    }

    /// All that is there and was not read yet, and no end of what a guest prints meanwhile. With `follow` the control
    /// domain tells of what is printed later.
    pub fn read(&mut self, follow: bool) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let text = self.client.console(&self.name, self.position, follow)?;
            self.take(&text, &mut bytes);
            if text.bytes.len() < MAX_TEXT || bytes.len() >= MAX_KEPT {
                return Ok(bytes);
            }
        }
    }

    /// Waits for the next event, about this console or another thing.
    pub fn wait(&self, patience: Duration) -> Option<Event> {
        self.client.next_event(patience)
    }

    /// The new bytes of an event about this console. One that leaves a gap, or repeats what was read, is put right.
    pub fn bytes_of(&mut self, event: &Event) -> Result<Vec<u8>> {
        match event {
            Event::Console { name, text } if *name == self.name => {
                if self.position.is_none_or(|position| text.from > position) {
                    return self.read(true);
                }
                let mut bytes = Vec::new();
                self.take(text, &mut bytes);
                Ok(bytes)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn take(&mut self, text: &Text, bytes: &mut Vec<u8>) {
        let known = self.position.unwrap_or_default().saturating_sub(text.from);
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(text.bytes.len());
        bytes.extend_from_slice(&text.bytes[known..]);
        self.position = self.position.max(Some(text.next));
    }
}
