//! The register of a plan's transitions: what was proposed, and where each stands.
//!
//! ```text
//! pending -> applying -> succeeded | failed | cancelled
//! applying -> pending (retried, attempt + 1)
//! pending -> refused | skipped | cancelled
//! ```

use std::collections::HashMap;

use super::Law;
use super::fact::{Answer, Asked, Ending, Name, Proposal};

/// Every transition by its id.
#[derive(Debug, Default)]
pub(super) struct Register {
    entries: HashMap<String, Entry>,
    unfinished: u64,
    counts: [u64; 5],
}

/// One transition; what was proposed is kept as long as it may still run.
#[derive(Debug)]
struct Entry {
    status: Status,
    attempt: u64,
    /// The newest attempt that was admitted; 0 before the first.
    admitted: u64,
    proposal: Option<Box<Proposal>>,
    /// Answers to admission predicates since the last admission.
    answers: Vec<(Asked, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Applying,
    Ended(Ending),
}

impl Register {
    /// How many transitions were proposed.
    pub fn proposed(&self) -> usize {
        self.entries.len()
    }

    /// How many have ended, by ending.
    pub fn counts(&self) -> &[u64; 5] {
        &self.counts
    }

    /// Whether every transition has ended.
    pub fn is_finished(&self) -> bool {
        self.unfinished == 0
    }

    /// Whether every transition succeeded.
    pub fn all_succeeded(&self) -> bool {
        self.entries.values().all(|entry| entry.status == Status::Ended(Ending::Succeeded))
    }

    /// Takes a transition in.
    pub fn propose(&mut self, proposal: Box<Proposal>) -> Result<(), Law> {
        let name = proposal.transition.clone();
        let entry = Entry {
            status: Status::Pending,
            attempt: 1,
            admitted: 0,
            proposal: Some(proposal),
            answers: Vec::new(),
        };
        if self.entries.insert(name, entry).is_some() {
            return Err(Law::TransitionKnown);
        }
        self.unfinished = self.unfinished.checked_add(1).ok_or(Law::BudgetSum)?;
        Ok(())
    }

    /// Notes the answer to an admission predicate.
    pub fn check(&mut self, transition: &str, answer: &Answer) -> Result<(), Law> {
        let entry = self.waiting(transition)?;
        entry.answers.retain(|(asked, _)| *asked != answer.asked);
        entry.answers.push((answer.asked, answer.holds));
        Ok(())
    }

    /// Moves a transition to `applying`; answers what was proposed.
    pub fn admit(&mut self, name: &Name) -> Result<&Proposal, Law> {
        let entry = self.waiting(&name.transition)?;
        if entry.attempt != name.attempt {
            return Err(Law::TransitionOrder);
        }
        let answers = std::mem::take(&mut entry.answers);
        entry.status = Status::Applying;
        entry.admitted = entry.attempt;
        let proposal = self.proposal(&name.transition)?;
        let met = |asked: &Asked| answers.contains(&(*asked, true));
        if !proposal.depends_on.iter().all(|name| self.has_succeeded(name)) {
            return Err(Law::AdmissionDependencies);
        }
        if proposal.admission.iter().all(met) {
            return Ok(proposal);
        }
        Err(Law::AdmissionPredicates)
    }

    /// What was proposed, of a transition that has not ended.
    pub fn proposal(&self, transition: &str) -> Result<&Proposal, Law> {
        let entry = self.entries.get(transition).ok_or(Law::TransitionKnown)?;
        entry.proposal.as_deref().ok_or(Law::TransitionOrder)
    }

    /// Ends a transition whose attempt runs.
    pub fn end(&mut self, name: &Name, ending: Ending) -> Result<(), Law> {
        self.applying(name)?;
        self.finish(&name.transition, ending)
    }

    /// Ends a transition that never runs (again).
    pub fn end_waiting(&mut self, transition: &str, ending: Ending) -> Result<(), Law> {
        self.waiting(transition)?;
        self.finish(transition, ending)
    }

    /// Skips a transition because of a dependency.
    pub fn skip(&mut self, transition: &str, because: &str) -> Result<(), Law> {
        self.waiting(transition)?;
        let proposal = self.proposal(transition)?;
        let ended = self.entries.get(because).map(|entry| entry.status);
        let named = proposal.depends_on.iter().any(|name| name == because);
        match ended {
            Some(Status::Ended(ending)) if named && ending != Ending::Succeeded => {
                self.finish(transition, Ending::Skipped)
            }
            _ => Err(Law::SkipCause),
        }
    }

    /// Lets a transition wait for its next attempt.
    pub fn retry(&mut self, name: &Name, next_attempt: u64) -> Result<(), Law> {
        let entry = self.applying(name)?;
        if name.attempt.checked_add(1) != Some(next_attempt) {
            return Err(Law::RetryNext);
        }
        entry.status = Status::Pending;
        entry.attempt = next_attempt;
        Ok(())
    }

    /// Whether an attempt of this number was admitted at some time.
    pub fn was_admitted(&self, name: &Name) -> bool {
        let entry = self.entries.get(&name.transition);
        entry.is_some_and(|entry| name.attempt <= entry.admitted)
    }

    fn has_succeeded(&self, transition: &str) -> bool {
        let entry = self.entries.get(transition);
        entry.is_some_and(|entry| entry.status == Status::Ended(Ending::Succeeded))
    }

    fn waiting(&mut self, transition: &str) -> Result<&mut Entry, Law> {
        let entry = self.entries.get_mut(transition).ok_or(Law::TransitionKnown)?;
        if entry.status == Status::Pending { Ok(entry) } else { Err(Law::TransitionOrder) }
    }

    fn applying(&mut self, name: &Name) -> Result<&mut Entry, Law> {
        let entry = self.entries.get_mut(&name.transition).ok_or(Law::TransitionKnown)?;
        let runs = entry.status == Status::Applying && entry.attempt == name.attempt;
        if runs { Ok(entry) } else { Err(Law::TransitionOrder) }
    }

    fn finish(&mut self, transition: &str, ending: Ending) -> Result<(), Law> {
        let entry = self.entries.get_mut(transition).ok_or(Law::TransitionKnown)?;
        *entry = Entry {
            status: Status::Ended(ending),
            attempt: entry.attempt,
            admitted: entry.admitted,
            proposal: None,
            answers: Vec::new(),
        };
        let count = self.counts.get_mut(ending as usize).ok_or(Law::TransitionOrder)?;
        *count = count.checked_add(1).ok_or(Law::BudgetSum)?;
        self.unfinished = self.unfinished.checked_sub(1).ok_or(Law::TransitionOrder)?;
        Ok(())
    }
}
