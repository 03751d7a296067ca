//! One execution attempt, from admission until its transition leaves `applying`.
//!
//! ```text
//! admitted -> leased, reserved -> started -> ended -> settled | voided -> lease released
//! admitted -> memo hit
//! started -> controlled -> ended
//! ```

use super::Law;
use super::amounts::{Amounts, places};
use super::fact::{Answer, Asked, Name, Outcome, Part};
use crate::json::Value;

/// Below this the orchestrator keeps the records of each execution.
pub(super) const RECORDS: &str = "/artifacts/execution/";

/// Where the lease of an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    None,
    Held,
    Gone,
}

/// What is asked of an execution that runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Cancel,
    Pause,
    Resume,
    SetBudget(Amounts),
}

impl Op {
    /// Reads the data of `execution.controlled`.
    pub fn read(data: &Value) -> Option<Self> {
        Some(match data.get("op")?.as_str()? {
            "cancel" => Self::Cancel,
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            _ => Self::SetBudget(Amounts::read(data.get("budget")?)?),
        })
    }
}

/// An open attempt.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts that come in more orders than states")]
pub(super) struct Attempt {
    pub name: Name,
    pub write_prefix: String,
    pub write_set: Vec<String>,
    pub inputs_hash: String,
    pub lease: Lease,
    pub hold: Option<Amounts>,
    pub started: bool,
    pub ended: Option<Outcome>,
    /// Whether the hold has been settled or voided.
    pub booked: bool,
    /// Whether the outputs of another execution stand for this one.
    pub remembered: bool,
    /// Whether somebody cancelled it, so that it is not tried again.
    pub cancelled: bool,
    paused: bool,
    /// What it was allowed at last, where that is less than its hold, or is not held.
    budget: Amounts,
    /// Whether it brought an output, so that it certainly ran.
    delivered: bool,
    /// Whether a child plan lives on its hold.
    parent: bool,
    part: (u64, u64),
    success: Vec<(Asked, bool)>,
}

impl Attempt {
    /// An attempt that was just admitted.
    pub fn new(
        name: Name,
        write_prefix: String,
        write_set: Vec<String>,
        inputs_hash: String,
    ) -> Self {
        Self {
            name,
            write_prefix,
            write_set,
            inputs_hash,
            lease: Lease::None,
            hold: None,
            started: false,
            ended: None,
            booked: false,
            remembered: false,
            cancelled: false,
            paused: false,
            budget: Amounts::default(),
            delivered: false,
            parent: false,
            part: (0, 0),
            success: Vec::new(),
        }
    }

    /// The hold, while it is neither settled nor voided.
    pub fn held(&self) -> Option<Amounts> {
        self.hold.filter(|_| !self.booked)
    }

    /// Takes the lease.
    pub fn lease(&mut self) -> Result<(), Law> {
        if self.lease != Lease::None {
            return Err(Law::LeasePair);
        }
        self.lease = Lease::Held;
        Ok(())
    }

    /// Gives the lease back: after the hold, unless it expired.
    pub fn unlease(&mut self, expired: bool) -> Result<(), Law> {
        if self.lease != Lease::Held {
            return Err(Law::LeasePair);
        }
        if !expired && !self.booked && !self.remembered {
            return Err(Law::ExecutionOrder);
        }
        self.lease = Lease::Gone;
        Ok(())
    }

    /// Takes the hold.
    pub fn reserve(&mut self, hold: Amounts) -> Result<(), Law> {
        if self.hold.is_some() {
            return Err(Law::BudgetOnce);
        }
        if self.remembered {
            return Err(Law::ExecutionOrder);
        }
        self.hold = Some(hold);
        Ok(())
    }

    /// Stands on what another execution delivered: reserves and spends nothing.
    pub fn remember(&mut self) -> Result<(), Law> {
        if self.hold.is_some() || self.remembered {
            return Err(Law::ExecutionOrder);
        }
        self.remembered = true;
        Ok(())
    }

    /// Starts to run: with a hold, under its lease, once.
    pub fn start(&mut self) -> Result<(), Law> {
        let ready = self.held().is_some() && self.lease == Lease::Held;
        if !ready || self.started || self.ended.is_some() {
            return Err(Law::ExecutionOrder);
        }
        self.started = true;
        Ok(())
    }

    /// Is controlled while it runs: each operation changes something, and a budget only falls.
    ///
    /// What is limited and not held is allowed to nobody.
    pub fn control(&mut self, op: Op, limit: &Amounts) -> Result<(), Law> {
        let runs = self.started && self.ended.is_none() && !self.cancelled;
        let hold = self.held().filter(|_| runs).ok_or(Law::ExecutionControl)?;
        let changes = match op {
            Op::Cancel => !std::mem::replace(&mut self.cancelled, true),
            Op::Pause => !std::mem::replace(&mut self.paused, true),
            Op::Resume => std::mem::replace(&mut self.paused, false),
            Op::SetBudget(asked) => {
                let before = self.budget;
                let allowed = |place| {
                    let unheld = limit.stated(place).map(|_| 0);
                    before.stated(place).or(hold.stated(place)).or(unheld)
                };
                let rises = |place| {
                    asked.stated(place).zip(allowed(place)).is_some_and(|(most, now)| most > now)
                };
                let falls = |place| {
                    asked
                        .stated(place)
                        .is_some_and(|most| allowed(place).is_none_or(|now| most < now))
                };
                let either = |place| Some(asked.stated(place).or(before.stated(place)));
                self.budget = Amounts::of(either).unwrap_or(before);
                places().any(falls) && !places().any(rises)
            }
        };
        if changes { Ok(()) } else { Err(Law::ExecutionControl) }
    }

    /// Ends its run, once; only an orphan may never have started.
    pub fn end(&mut self, outcome: Outcome) -> Result<(), Law> {
        let ran = self.started || outcome == Outcome::Orphaned;
        if !ran || self.ended.is_some() || self.held().is_none() {
            return Err(Law::ExecutionOrder);
        }
        self.ended = Some(outcome);
        Ok(())
    }

    /// Books the hold as settled or voided; answers the hold.
    pub fn book(&mut self, stated: &Amounts, void: bool) -> Result<Amounts, Law> {
        let hold = self.held().ok_or(Law::BudgetOnce)?;
        if !hold.equals(stated) {
            return Err(Law::BudgetHold);
        }
        match self.ended {
            None | Some(Outcome::Orphaned) if void && !self.delivered => {}
            _ if void => return Err(Law::BudgetVoid),
            None => return Err(Law::ExecutionOrder),
            Some(_) => {}
        }
        self.booked = true;
        Ok(hold)
    }

    /// Gives its hold to a child plan, once.
    pub fn parent(&mut self, hold: &Amounts) -> Result<(), Law> {
        if self.parent || !self.held().is_some_and(|own| own.equals(hold)) {
            return Err(Law::ChildHold);
        }
        self.parent = true;
        Ok(())
    }

    /// Reads inputs, secrets or streams: only while a hold or a memory stands for it.
    pub fn uses(&self) -> Result<(), Law> {
        if self.held().is_some() || self.remembered { Ok(()) } else { Err(Law::ExecutionOrder) }
    }

    /// Puts artifacts into the world.
    pub fn produce(&mut self, part: &Part) -> Result<(), Law> {
        if !((self.started && self.held().is_some()) || self.remembered) {
            return Err(Law::ArtifactOpen);
        }
        let records = format!("{RECORDS}{}/", self.name.execution_id);
        let own =
            |path: &String| path.starts_with(&self.write_prefix) || path.starts_with(&records);
        if !part.paths.iter().all(own) {
            return Err(Law::ArtifactPlace);
        }
        let (before, of) = self.part;
        let follows = before.checked_add(1) == Some(part.number) && part.number <= part.of;
        if !follows || (before > 0 && of != part.of) {
            return Err(Law::ArtifactParts);
        }
        self.part = (part.number, part.of);
        self.delivered |= part.paths.iter().any(|path| path.starts_with(&self.write_prefix));
        Ok(())
    }

    /// Notes the answer to a success predicate; a later one replaces an earlier.
    pub fn check(&mut self, answer: &Answer) {
        self.success.retain(|(asked, _)| *asked != answer.asked);
        self.success.push((answer.asked, answer.holds));
    }

    /// Whether every one of these predicates was true.
    pub fn has_met(&self, asked: &[Asked]) -> bool {
        asked.iter().all(|asked| self.success.contains(&(*asked, true)))
    }

    /// Holds the attempt to its end: booked or remembered, its lease gone, its list complete.
    pub fn close(&self) -> Result<(), Law> {
        if self.lease == Lease::Held {
            return Err(Law::LeasePair);
        }
        if !self.booked && !self.remembered {
            return Err(Law::BudgetOnce);
        }
        if self.part.0 < self.part.1 { Err(Law::ArtifactParts) } else { Ok(()) }
    }
}
