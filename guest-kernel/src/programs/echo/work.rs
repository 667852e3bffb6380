//! What a front end is asked to do with its device, a bounded piece at a time.

use io_rings::PeerBroken;

use super::front::Front;
use super::{Block, DEPTH, Figures, Ground, Request, Response, operation, status};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Fill all blocks with what belongs to a seed, where they are to be written, then read all and compare.
    Check {
        /// The seed.
        seed: u64,
        /// They are to be written.
        write: bool,
    },
    /// So many requests, reads and writes in turn, at most `depth` of them under way, and what they cost.
    Run {
        /// At most [`DEPTH`].
        depth: usize,
        /// How many.
        count: u64,
    },
    /// Writes without end, as many under way as can be.
    Stream,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a check: blocks read, and answers that were not right.
    Checked {
        /// How many blocks.
        blocks: u64,
        /// How many of the answers.
        wrong: u64,
    },
    /// Of a run: what either end spent.
    Ran {
        /// The run's.
        depth: usize,
        /// The run's.
        count: u64,
        /// Answers that were not right.
        wrong: u64,
        /// This end's.
        front: Figures,
        /// The other's.
        back: Figures,
    },
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The back end's figures were not asked for.
    New,
    /// They were.
    Asked,
    /// They are known, and this end's of the same moment.
    Going { own: Figures, theirs: Figures },
}

/// A task under way.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    task: Task,
    stage: Stage,
    made: u64,
    answered: u64,
    wrong: u64,
}

impl Work {
    /// Begins.
    pub fn new(task: Task) -> Self {
        Self { task, stage: Stage::New, made: 0, answered: 0, wrong: 0 }
    }

    /// Answers so far, and how many of them were not right.
    pub fn answers(&self) -> (u64, u64) {
        (self.answered, self.wrong)
    }

    /// Takes what was answered and makes what may be made. Whether an answer came, and the outcome where that was all.
    pub fn turn<G: Ground>(
        &mut self,
        front: &mut Front<G>,
        figures: impl Fn() -> Figures,
    ) -> Result<(bool, Option<Outcome>), PeerBroken> {
        let mut any = false;
        while let Some((request, response, page)) = front.take()? {
            any = true;
            if request.operation == operation::FIGURES {
                if let Some(outcome) = self.heard(figures(), Figures::from_block(page)) {
                    return Ok((true, Some(outcome)));
                }
                continue;
            }
            self.answered += 1;
            self.wrong += u64::from(!self.is_right(&request, &response, page));
        }
        if !front.is_served() {
            return Ok((any, None));
        }
        self.make(front);
        front.send();
        let is_read = self.made == 2 * front.blocks() && front.under_way() == 0;
        let checked = matches!(self.task, Task::Check { .. }) && is_read;
        Ok((any, checked.then(|| Outcome::Checked { blocks: front.blocks(), wrong: self.wrong })))
    }

    /// The back end's figures came.
    fn heard(&mut self, own: Figures, theirs: Figures) -> Option<Outcome> {
        match (self.task, self.stage) {
            (Task::Run { depth, count }, Stage::Going { own: own_before, theirs: theirs_before }) => {
                let (front, back) = (own.since(own_before), theirs.since(theirs_before));
                Some(Outcome::Ran { depth, count, wrong: self.wrong, front, back })
            }
            _ => {
                self.stage = Stage::Going { own, theirs };
                None
            }
        }
    }

    fn is_right(&self, request: &Request, response: &Response, page: &Block) -> bool {
        let as_written = match self.task {
            Task::Check { seed, .. } if request.operation == operation::READ => {
                page.is_filled(seed ^ request.block)
            }
            _ => true,
        };
        response.status == status::OKAY && as_written
    }

    fn make<G: Ground>(&mut self, front: &mut Front<G>) {
        let blocks = front.blocks().max(1);
        match self.task {
            Task::Check { seed, write } => {
                if !write {
                    self.made = self.made.max(blocks);
                }
                while self.make_check(front, blocks, seed).is_some() {}
            }
            Task::Run { depth, count } => {
                self.ask_figures(front, count);
                let depth = depth.clamp(1, DEPTH);
                while self.make_run(front, blocks, depth, count).is_some() {}
            }
            Task::Stream => {
                while front.write(self.made % blocks).is_some() {
                    self.made += 1;
                }
            }
        }
    }

    fn make_check<G: Ground>(&mut self, front: &mut Front<G>, blocks: u64, seed: u64) -> Option<()> {
        let block = self.made % blocks;
        if self.made < blocks {
            front.page()?.fill(seed ^ block);
            front.write(block)?;
        } else {
            // Answers may come in any order: nothing is read before all is written.
            if self.made == 2 * blocks || self.made == blocks && front.under_way() > 0 {
                return None;
            }
            front.read(block)?;
        }
        self.made += 1;
        Some(())
    }

    /// Before the first request and behind the last answer.
    fn ask_figures<G: Ground>(&mut self, front: &mut Front<G>, count: u64) {
        let due = self.stage == Stage::New || self.answered == count;
        if due
            && front.under_way() == 0
            && front.ask(operation::FIGURES, 0).is_some()
            && self.stage == Stage::New
        {
            self.stage = Stage::Asked;
        }
    }

    fn make_run<G: Ground>(
        &mut self,
        front: &mut Front<G>,
        blocks: u64,
        depth: usize,
        count: u64,
    ) -> Option<()> {
        let goes = matches!(self.stage, Stage::Going { .. });
        if !goes || self.made == count || front.under_way() >= depth {
            return None;
        }
        let operation = if self.made.is_multiple_of(2) { operation::READ } else { operation::WRITE };
        front.ask(operation, self.made % blocks)?;
        self.made += 1;
        Some(())
    }
}
