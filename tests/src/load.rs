//! Work for a guest that is given to it again whenever it is done: whatever happens meanwhile happens under load.

use toolstack::control::{Client, Console};

use crate::{Result, ensure, watch::until};

/// A guest's work.
pub struct Load<'client> {
    client: &'client Client,
    console: Console<'client>,
    name: &'client str,
    /// What is typed at its console.
    line: String,
    /// How each line begins that answers it, and what has to follow.
    answer: (&'client str, String),
    /// What was printed of a line that is not whole yet.
    rest: String,
    under_way: bool,
    done: u32,
}

impl<'client> Load<'client> {
    /// Not begun yet.
    pub fn new(
        client: &'client Client,
        name: &'client str,
        line: &str,
        answer: (&'client str, String),
    ) -> Result<Self> {
        let mut console = Console::new(client, name);
        console.read(false)?;
        let line = format!("{line}\n");
        Ok(Self { client, console, name, line, answer, rest: String::new(), under_way: false, done: 0 })
    }

    /// Sees that it is under way.
    pub fn keep_up(&mut self) -> Result<()> {
        self.look()?;
        if !self.under_way {
            self.client.input(self.name, self.line.as_bytes())?;
            self.under_way = true;
        }
        Ok(())
    }

    /// Waits until it is done. How often it was, each time as it has to be.
    pub fn end(mut self) -> Result<u32> {
        until(&format!("{} to be done with `{}`", self.name, self.line.trim()), || {
            self.look()?;
            Ok((!self.under_way).then_some(self.done))
        })
    }

    fn look(&mut self) -> Result<()> {
        self.rest.push_str(&String::from_utf8_lossy(&self.console.read(false)?));
        let Some(whole) = self.rest.rfind('\n') else { return Ok(()) };
        let rest = self.rest.split_off(whole + 1);
        let (begin, end) = &self.answer;
        for line in std::mem::replace(&mut self.rest, rest).lines() {
            let Some((_, told)) = line.split_once(begin) else { continue };
            ensure!(told.starts_with(end), "{} says `{line}` where `{begin}{end}` belongs", self.name);
            ensure!(self.under_way, "{} says `{line}` and was asked nothing", self.name);
            (self.under_way, self.done) = (false, self.done + 1);
        }
        Ok(())
    }
}
