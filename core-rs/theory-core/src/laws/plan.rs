//! One plan under its laws: every event goes to the part that it concerns.

use std::collections::HashMap;

use super::Law;
use super::amounts::Amounts;
use super::attempt::{Attempt, RECORDS};
use super::bank::Bank;
use super::fact::{
    Answer, Creation, Ending, Fact, Name, Outcome, Part, PlanEnd, Proposal, Scope, Totals, What,
    canonical_path,
};
use super::leases::Leases;
use super::register::Register;
use crate::path::PlanAddress;
use crate::template::PLACEHOLDER;

type Judged = Result<(), Law>;

/// The state of a plan, and nothing of its past that no law needs.
#[derive(Debug)]
pub(super) struct Plan {
    root: Option<PlanAddress>,
    rules: Creation,
    status: Status,
    failing: bool,
    cancelling: bool,
    epoch: u64,
    /// Usage beyond a hold whose breach has to follow at once.
    owed: Option<(Name, Amounts)>,
    bank: Bank,
    leases: Leases,
    register: Register,
    open: HashMap<String, Attempt>,
    /// What settled attempts leave to what their runs propose, until their transitions go on.
    left: Vec<(String, Amounts)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Active,
    Paused,
    Ended,
}

impl Plan {
    /// A plan that was just created.
    pub fn new(address: &str, rules: Creation) -> Self {
        Self {
            root: PlanAddress::parse(address).ok(),
            bank: Bank::new(rules.limit),
            rules,
            status: Status::Active,
            failing: false,
            cancelling: false,
            epoch: 0,
            owed: None,
            leases: Leases::default(),
            register: Register::default(),
            open: HashMap::new(),
            left: Vec::new(),
        }
    }

    /// Judges the next event and takes it in.
    pub fn judge(&mut self, fact: Fact) -> Judged {
        if self.status == Status::Ended {
            return Err(Law::PlanEnded);
        }
        if let Some((name, excess)) = self.owed.take() {
            return self.breach(&name, &excess, &fact);
        }
        if fact.stray {
            return Err(Law::PathCanonical);
        }
        match fact.attempt {
            Some(name) => self.attempt(name, fact.what),
            None => self.whole(fact.seq, fact.what),
        }
    }

    /// What concerns the plan, or a transition that does not run.
    fn whole(&mut self, seq: u64, what: What) -> Judged {
        match what {
            What::Created(_) => Err(Law::PlanCreated),
            What::Paused => self.turn(Status::Active, Status::Paused),
            What::Resumed => self.turn(Status::Paused, Status::Active),
            What::CancelRequested if self.cancelling => Err(Law::PlanStatus),
            What::CancelRequested => {
                self.cancelling = true;
                Ok(())
            }
            What::PlanEnded(end, totals) => self.end(end, totals.as_deref(), seq),
            What::Proposed(proposal) => self.propose(proposal),
            What::Refused { transition, over_budget } => self.refuse(&transition, over_budget),
            What::Skipped { transition, because } => self.register.skip(&transition, &because),
            What::Cancelled { transition, execution_id, attempt } => {
                self.cancel(transition, execution_id, attempt)
            }
            What::Checked { scope, transition, execution_id, answer } => {
                self.check(scope, transition.as_deref(), execution_id.as_deref(), seq, &answer)
            }
            What::ToppedUp { amount, limit } => self.bank.top_up(&amount, &limit),
            What::Produced(part) => self.put(&part),
            _ => Ok(()),
        }
    }

    /// What concerns one attempt.
    fn attempt(&mut self, name: Name, what: What) -> Judged {
        match what {
            What::Admitted { write_prefix, write_set, inputs_hash } => {
                let attempt = Attempt::new(name, write_prefix, write_set, inputs_hash);
                return self.admit(attempt);
            }
            What::Duplicate => return self.duplicate(&name),
            What::Ended(ending) => return self.finish(&name, ending),
            What::Retried { next_attempt } => {
                if running(&mut self.open, &name)?.cancelled {
                    return Err(Law::ExecutionControl);
                }
                self.close(&name, None)?;
                return self.register.retry(&name, next_attempt);
            }
            What::Reserved { hold, epoch } => return self.reserve(&name, hold, epoch),
            What::Breached(_) => return Err(Law::BudgetBreach),
            _ => {}
        }
        let known = self.register.proposal(&name.transition).map(|proposal| &proposal.work);
        let attempt = running(&mut self.open, &name)?;
        match what {
            What::LeaseAcquired { paths, epoch } => {
                attempt.lease()?;
                raise(&mut self.epoch, epoch)?;
                if paths != attempt.write_set {
                    return Err(Law::WriteSet);
                }
                self.leases.acquire(&paths)
            }
            What::LeaseReleased => {
                attempt.unlease(false)?;
                self.leases.release(&attempt.write_set);
                Ok(())
            }
            What::LeaseExpired { epoch } => {
                attempt.unlease(true)?;
                self.leases.release(&attempt.write_set);
                raise(&mut self.epoch, epoch)
            }
            What::Started { work, inputs_hash, registry_snapshot } => {
                attempt.start()?;
                let same = *known? == work
                    && inputs_hash == attempt.inputs_hash
                    && registry_snapshot == self.rules.registry_snapshot;
                if same { Ok(()) } else { Err(Law::ExecutionProposed) }
            }
            What::Controlled(_) if self.cancelling => Err(Law::ExecutionControl),
            What::Controlled(op) => attempt.control(op, &self.bank.limit),
            What::ExecutionEnded(outcome) => attempt.end(outcome),
            What::MemoHit => attempt.remember(),
            What::Settled { hold, actual, basis } => {
                let hold = attempt.book(&hold, false)?;
                let excess = self.bank.settle(&hold, &actual, basis)?;
                self.left.push((name.execution_id.clone(), self.bank.left(&hold, &actual)));
                self.owed = excess.map(|excess| (name, excess));
                Ok(())
            }
            What::Voided(hold) => self.bank.void(&attempt.book(&hold, true)?),
            What::ChildCreated(hold) => attempt.parent(&hold),
            What::Produced(part) => attempt.produce(&part),
            _ => attempt.uses(),
        }
    }

    fn turn(&mut self, from: Status, to: Status) -> Judged {
        if self.status != from || self.cancelling {
            return Err(Law::PlanStatus);
        }
        self.status = to;
        Ok(())
    }

    /// Law: from the settle of an attempt until its transition goes on, its run proposes.
    fn propose(&mut self, proposal: Box<Proposal>) -> Judged {
        for (_, left) in &mut self.left {
            *left = left.less(&proposal.hold).ok_or(Law::ProposalHold)?;
        }
        self.register.propose(proposal)
    }

    /// Whether anything may be admitted now.
    fn admits(&self) -> Judged {
        if self.bank.breached {
            return Err(Law::AdmissionBreach);
        }
        if self.status != Status::Active || self.cancelling || self.failing {
            return Err(Law::AdmissionPlan);
        }
        Ok(())
    }

    fn admit(&mut self, attempt: Attempt) -> Judged {
        self.admits()?;
        let name = &attempt.name;
        let proposal = self.register.admit(name)?;
        if !name.own || self.open.contains_key(&name.execution_id) {
            return Err(Law::ExecutionId);
        }
        let root = self.root.as_ref();
        let expands = |template: &String, path: &String| {
            let expanded = template.replace(PLACEHOLDER, &name.execution_id);
            expanded == *path || canonical_path(&expanded, root).as_ref() == Some(path)
        };
        let (templates, paths) = (&proposal.write_set, &attempt.write_set);
        let same = templates.len() == paths.len()
            && templates.iter().zip(paths).all(|(template, path)| expands(template, path))
            && expands(&proposal.write_prefix, &attempt.write_prefix);
        let holds = |path: &String| path.ends_with('/') && attempt.write_prefix.starts_with(path);
        if !same || !paths.iter().any(holds) {
            return Err(Law::WriteSet);
        }
        self.open.insert(name.execution_id.clone(), attempt);
        Ok(())
    }

    fn reserve(&mut self, name: &Name, hold: Amounts, epoch: u64) -> Judged {
        self.admits()?;
        let attempt = running(&mut self.open, name)?;
        attempt.reserve(hold)?;
        if !self.register.proposal(&name.transition)?.hold.equals(&hold) {
            return Err(Law::BudgetAsk);
        }
        self.bank.reserve(&hold)?;
        raise(&mut self.epoch, epoch)
    }

    /// Law: usage beyond a hold is followed by its breach, and nothing comes between.
    fn breach(&mut self, owing: &Name, owed: &Amounts, fact: &Fact) -> Judged {
        match (&fact.attempt, &fact.what) {
            (Some(name), What::Breached(excess)) if name == owing && excess.equals(owed) => {
                self.bank.breached = true;
                self.failing = self.failing || self.rules.fails_on_breach;
                Ok(())
            }
            _ => Err(Law::BudgetBreach),
        }
    }

    fn refuse(&mut self, transition: &str, over_budget: bool) -> Judged {
        // A transition that has ended has no proposal, and is no longer pending either.
        let proposal = self.register.proposal(transition)?;
        let hopeless = self.bank.is_hopeless(&proposal.hold);
        self.register.end_waiting(transition, Ending::Refused)?;
        if over_budget && !hopeless {
            return Err(Law::RefusalBudget);
        }
        self.failing = self.failing || self.rules.fails_on_refused;
        Ok(())
    }

    fn cancel(
        &mut self,
        transition: String,
        execution_id: Option<String>,
        attempt: Option<u64>,
    ) -> Judged {
        match (execution_id, attempt) {
            (None, None) => self.register.end_waiting(&transition, Ending::Cancelled),
            (Some(execution_id), Some(attempt)) => {
                let name = Name { execution_id, transition, attempt, own: false };
                self.finish(&name, Ending::Cancelled)
            }
            _ => Err(Law::ExecutionKnown),
        }
    }

    /// Ends a transition with its attempt.
    fn finish(&mut self, name: &Name, ending: Ending) -> Judged {
        self.close(name, Some(ending))?;
        self.register.end(name, ending)
    }

    /// Takes an attempt out of the open ones, if its end allows that of its transition.
    fn close(&mut self, name: &Name, ending: Option<Ending>) -> Judged {
        let attempt = running(&mut self.open, name)?;
        attempt.close()?;
        let succeeded = attempt.remembered || attempt.ended == Some(Outcome::Succeeded);
        let met = attempt.has_met(&self.register.proposal(&name.transition)?.success);
        match ending {
            Some(Ending::Succeeded) if !succeeded => return Err(Law::TransitionEnd),
            Some(Ending::Succeeded) if !met => return Err(Law::SuccessPredicates),
            Some(Ending::Succeeded) => {}
            Some(Ending::Cancelled) if succeeded => return Err(Law::TransitionEnd),
            // What succeeded fails, or is tried again, by a predicate and by nothing else.
            _ if succeeded && met => return Err(Law::TransitionEnd),
            _ => {}
        }
        self.open.remove(&name.execution_id);
        self.left.retain(|(settled, _)| *settled != name.execution_id);
        Ok(())
    }

    /// A late or second result of an attempt that was admitted.
    fn duplicate(&self, name: &Name) -> Judged {
        if !name.own {
            return Err(Law::ExecutionId);
        }
        if self.register.was_admitted(name) { Ok(()) } else { Err(Law::ExecutionKnown) }
    }

    /// What a person puts into the world: where nobody holds a lease, and not among the records.
    fn put(&self, part: &Part) -> Judged {
        if part.number > part.of {
            return Err(Law::ArtifactParts);
        }
        let taken = |path: &String| path.starts_with(RECORDS) || self.leases.overlaps(path);
        if part.paths.iter().any(taken) { Err(Law::ArtifactPlace) } else { Ok(()) }
    }

    fn check(
        &mut self,
        scope: Scope,
        transition: Option<&str>,
        execution_id: Option<&str>,
        seq: u64,
        answer: &Answer,
    ) -> Judged {
        if answer.at_seq >= seq {
            return Err(Law::PredicateScope);
        }
        match (scope, transition, execution_id) {
            (Scope::Admission, Some(transition), None) => self.register.check(transition, answer),
            (Scope::Success, Some(transition), Some(id)) => {
                let attempt = self.open.get_mut(id).ok_or(Law::ExecutionKnown)?;
                if attempt.name.transition != transition {
                    return Err(Law::ExecutionKnown);
                }
                attempt.check(answer);
                Ok(())
            }
            (Scope::Other, _, _) => Ok(()),
            _ => Err(Law::PredicateScope),
        }
    }

    fn end(&mut self, end: PlanEnd, totals: Option<&Totals>, seq: u64) -> Judged {
        if (end == PlanEnd::Cancelled) != self.cancelling {
            return Err(Law::PlanStatus);
        }
        let announced = usize::try_from(self.rules.transitions).unwrap_or(usize::MAX);
        let complete = self.register.is_finished() && self.register.proposed() >= announced;
        if !complete || !self.open.is_empty() {
            return Err(Law::PlanOpen);
        }
        if let Some(totals) = totals {
            if totals.answers.iter().any(|answer| answer.at_seq >= seq) {
                return Err(Law::PredicateScope);
            }
            if totals.counts != *self.register.counts() || !self.bank.has_spent(&totals.spent) {
                return Err(Law::PlanTotals);
            }
            if self.reaches(totals) != (end == PlanEnd::Completed) {
                return Err(Law::PlanGoal);
            }
        }
        self.status = Status::Ended;
        Ok(())
    }

    /// Whether the plan reached its goal; without one, whether every transition succeeded.
    fn reaches(&self, totals: &Totals) -> bool {
        let goal = &self.rules.goal;
        let answers = &totals.answers;
        let asked = goal.len() == answers.len()
            && goal.iter().zip(answers).all(|(asked, answer)| *asked == answer.asked);
        let all_true = asked && answers.iter().all(|answer| answer.holds);
        !self.failing && all_true && (!goal.is_empty() || self.register.all_succeeded())
    }
}

/// The open attempt of that name.
fn running<'a>(
    open: &'a mut HashMap<String, Attempt>,
    name: &Name,
) -> Result<&'a mut Attempt, Law> {
    let attempt = open.get_mut(&name.execution_id).ok_or(Law::ExecutionKnown)?;
    let same = attempt.name.transition == name.transition && attempt.name.attempt == name.attempt;
    if same { Ok(attempt) } else { Err(Law::ExecutionKnown) }
}

/// Law: once a newer owner has written, an older one writes nothing.
fn raise(epoch: &mut u64, stated: u64) -> Judged {
    if stated < *epoch {
        return Err(Law::Epoch);
    }
    *epoch = stated;
    Ok(())
}
