//! Whose time it was on a guest's core, as the guest tells it.
//!
//! It is told when it is asked for, a message an account, behind one that says how many come. What a guest tells is an
//! allegation: a table that is longer than there may be, or does not come whole before the next one, is none.

use alloc::string::String;
use alloc::vec::Vec;

use abi::control::wire::Account;
use abi::mesh::{FIRST_CORE, MAX_ACCOUNTS, kind};
use io_rings::urpc::Message;

/// The accounts of one guest.
#[derive(Debug, Default)]
pub struct Accounts {
    /// How many whole tables it has told.
    pub told: u64,
    /// The last one.
    pub table: Vec<Account>,
    coming: Vec<Account>,
    /// How many of it are still to come.
    awaited: usize,
}

impl Accounts {
    /// Takes a message; false if it is about something else.
    pub fn take(&mut self, message: &Message) -> bool {
        match message[0] & u64::from(u32::MAX) {
            kind::ACCOUNTS => {
                self.coming.clear();
                let count = usize::try_from(message[1]).ok().filter(|&count| count <= MAX_ACCOUNTS);
                self.awaited = count.unwrap_or(0);
                if count == Some(0) {
                    self.whole();
                }
            }
            kind::ACCOUNT if self.awaited > 0 => {
                self.coming.push(account(message));
                self.awaited -= 1;
                if self.awaited == 0 {
                    self.whole();
                }
            }
            kind::ACCOUNT => {}
            _ => return false,
        }
        true
    }

    fn whole(&mut self) {
        self.table = core::mem::take(&mut self.coming);
        self.told += 1;
    }
}

fn account(message: &Message) -> Account {
    let [head, name, worked, paid, polls, sent, received] = *message;
    let number = head >> 32;
    let letters = name.to_le_bytes().into_iter().take_while(|&byte| byte != 0);
    Account {
        number: number.checked_sub(FIRST_CORE).unwrap_or(number) as u32,
        is_core: number >= FIRST_CORE,
        name: letters
            .map(|byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' })
            .collect::<String>(),
        worked,
        paid,
        polls,
        sent,
        received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a guest says, at most so many accounts are kept, with names that can be shown.
        #[test]
        fn noise_is_bounded(messages in proptest::collection::vec(
            (prop_oneof![Just(kind::ACCOUNTS), Just(kind::ACCOUNT), any::<u64>()], 0..80_u64, any::<u64>()), 0..400,
        )) {
            let mut accounts = Accounts::default();
            for (head, count, word) in messages {
                let second = if head == kind::ACCOUNTS { count } else { word };
                accounts.take(&[head | word << 32, second, word, word, word, word, word]);
                prop_assert!(accounts.coming.len() <= MAX_ACCOUNTS && accounts.table.len() <= MAX_ACCOUNTS);
            }
            for account in &accounts.table {
                prop_assert!(account.name.len() <= 8 && account.name.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
