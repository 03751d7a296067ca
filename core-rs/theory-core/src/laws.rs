//! The judge of laws: holds a ledger to the rules of plans and budgets at every prefix.
//!
//! It is a second implementation, written from the specification (spec: ledger laws), and shares
//! nothing with the scheduler whose ledgers it judges. One pass in order; what it keeps is the
//! state of the plan, not its past. Illegal is whatever [`Law`] names.
#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

mod amounts;
mod attempt;
mod bank;
mod fact;
mod kinds;
mod law;
mod leases;
mod plan;
mod register;
mod types;
mod words;

use crate::json::Value;

pub(crate) use fact::Fact;
pub use law::Law;

use fact::What;
use plan::Plan;

/// Names of the plans that every tenant has without creating them.
const RESERVED: [&str; 2] = ["audit", "governance"];

/// Why the data of an event cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misread {
    /// No event has this kind.
    Kind,
    /// The data has not the shape of its kind; the first such member, if the shape knows it.
    Data(Option<&'static str>),
}

/// Reads an event whose six members hold; depends on nothing but the event.
pub(crate) fn read(event: &Value) -> Result<Fact, Misread> {
    let text = |name| event.get(name).and_then(Value::as_str).ok_or(Misread::Data(None));
    let (plan, kind) = (text("plan")?, text("kind")?);
    let seq = event.get("seq").and_then(Value::as_int).and_then(|seq| u64::try_from(seq).ok());
    let data = event.get("data").ok_or(Misread::Data(None))?;
    kinds::check(kind, data).ok_or(Misread::Kind)?.map_err(Misread::Data)?;
    // What has its shape can be read; were it otherwise, the event would not be sound either.
    Fact::read(plan, seq.unwrap_or_default(), kind, data).ok_or(Misread::Data(None))
}

/// Whether data fits its kind: none if no event has this kind, else the answer.
#[must_use]
pub fn fits(kind: &str, data: &Value) -> Option<bool> {
    kinds::check(kind, data).map(|checked| checked.is_ok())
}

/// Judges the events of one plan in their order, from the first.
#[derive(Debug, Default)]
pub(crate) struct Judge(Option<Plan>);

impl Judge {
    /// Takes the next event, or names the first law that it breaks.
    pub fn take(&mut self, fact: Fact) -> Result<(), Law> {
        if let Some(plan) = &mut self.0 {
            return plan.judge(fact);
        }
        let reserved = fact.plan.rsplit('/').next().is_some_and(|name| RESERVED.contains(&name));
        match fact.what {
            What::Created(rules) if !reserved => {
                self.0 = Some(Plan::new(&fact.plan, *rules));
                Ok(())
            }
            What::Noted | What::Produced(_) if reserved && fact.attempt.is_none() => Ok(()),
            _ => Err(Law::PlanCreated),
        }
    }
}
