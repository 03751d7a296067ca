//! What an event says to the laws, read from its data once that has the shape of its kind.
//!
//! Everything here depends on one event alone, so that lines are read in parallel.

use super::amounts::Amounts;
use super::attempt::Op;
use super::bank::Basis;
use crate::digest;
use crate::facts::DIMENSIONS;
use crate::ids;
use crate::json::{Value, canonical};
use crate::limits::SEGMENT_BYTES;
use crate::path::{PlanAddress, WorldPath};

/// An event as the laws see it.
#[derive(Debug)]
pub(crate) struct Fact {
    /// Plan, as the event states it.
    pub(super) plan: String,
    /// Position in the ledger.
    pub(super) seq: u64,
    /// The attempt that the event is about.
    pub(super) attempt: Option<Name>,
    /// What happened.
    pub(super) what: What,
    /// Whether a path is not in canonical form.
    pub(super) stray: bool,
}

/// The three members that name an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub execution_id: String,
    pub transition: String,
    pub attempt: u64,
    /// Whether the id is known to be the one of plan, transition and attempt.
    pub own: bool,
}

/// Digest of a predicate's name and parameters.
pub(super) type Asked = [u8; 32];

/// An answer to a predicate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub asked: Asked,
    pub holds: bool,
    pub at_seq: u64,
}

/// How a transition ended; in the order of the counts of a plan's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Succeeded,
    Failed,
    Skipped,
    Cancelled,
    Refused,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    Orphaned,
}

/// How a plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlanEnd {
    Completed,
    Failed,
    Cancelled,
}

/// Counts, spending and answers that a plan ends with.
#[derive(Debug)]
pub(super) struct Totals {
    pub counts: [u64; 5],
    pub spent: Amounts,
    pub answers: Vec<Answer>,
}

/// A proposed transition.
#[derive(Debug)]
pub(super) struct Proposal {
    pub transition: String,
    pub depends_on: Vec<String>,
    pub write_prefix: String,
    pub write_set: Vec<String>,
    pub admission: Vec<Asked>,
    pub success: Vec<Asked>,
    pub hold: Amounts,
    pub work: Work,
}

/// What is to run: processor, mode and time limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub processor_ref: String,
    pub mode: String,
    pub timeout_ms: i64,
}

/// A plan as it was created.
#[derive(Debug)]
pub(super) struct Creation {
    pub limit: Amounts,
    pub transitions: u64,
    pub fails_on_refused: bool,
    pub fails_on_breach: bool,
    pub registry_snapshot: String,
    pub goal: Vec<Asked>,
}

/// A part of a list of produced artifacts.
#[derive(Debug)]
pub(super) struct Part {
    pub number: u64,
    pub of: u64,
    pub paths: Vec<String>,
}

/// What an event says, by kind.
#[derive(Debug)]
pub(super) enum What {
    Created(Box<Creation>),
    Paused,
    Resumed,
    CancelRequested,
    PlanEnded(PlanEnd, Option<Box<Totals>>),
    ChildCreated(Amounts),
    Proposed(Box<Proposal>),
    Admitted {
        write_prefix: String,
        write_set: Vec<String>,
        inputs_hash: String,
    },
    Refused {
        transition: String,
        over_budget: bool,
    },
    Ended(Ending),
    Skipped {
        transition: String,
        because: String,
    },
    Cancelled {
        transition: String,
        execution_id: Option<String>,
        attempt: Option<u64>,
    },
    Retried {
        next_attempt: u64,
    },
    Checked {
        scope: Scope,
        transition: Option<String>,
        execution_id: Option<String>,
        answer: Answer,
    },
    LeaseAcquired {
        paths: Vec<String>,
        epoch: u64,
    },
    LeaseReleased,
    LeaseExpired {
        epoch: u64,
    },
    Reserved {
        hold: Amounts,
        epoch: u64,
    },
    Settled {
        hold: Amounts,
        actual: Amounts,
        basis: Basis,
    },
    Voided(Amounts),
    Breached(Amounts),
    ToppedUp {
        amount: Amounts,
        limit: Amounts,
    },
    Started {
        work: Work,
        inputs_hash: String,
        registry_snapshot: String,
    },
    Controlled(Op),
    ExecutionEnded(Outcome),
    Duplicate,
    MemoHit,
    Produced(Part),
    /// An attempt reads, is given a secret, or seals a stream.
    Used,
    /// Nothing that moves a plan, a budget or a lease.
    Noted,
}

/// Where the answer to a predicate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Admission,
    Success,
    Other,
}

impl Fact {
    /// Reads an event whose data has the shape of its kind; none if it has not.
    pub fn read(plan: &str, seq: u64, kind: &str, data: &Value) -> Option<Self> {
        let mut reader = Reader { plan, data, stray: false };
        let what = reader.what(kind)?;
        // `transition.cancelled` names an attempt only if there is one, in members of its own.
        let attempt = match what {
            What::Cancelled { .. } => None,
            What::Admitted { .. } | What::Duplicate => reader.name().map(|name| reader.own(name)),
            _ => reader.name(),
        };
        let plan = plan.to_owned();
        Some(Self { plan, seq, attempt, what, stray: reader.stray })
    }
}

struct Reader<'a> {
    plan: &'a str,
    data: &'a Value,
    stray: bool,
}

impl Reader<'_> {
    fn what(&mut self, kind: &str) -> Option<What> {
        Some(match kind {
            "plan.created" => What::Created(Box::new(self.creation()?)),
            "plan.paused" => What::Paused,
            "plan.resumed" => What::Resumed,
            "plan.cancel_requested" => What::CancelRequested,
            "plan.cancelled" => What::PlanEnded(PlanEnd::Cancelled, None),
            "plan.completed" => What::PlanEnded(PlanEnd::Completed, Some(self.totals()?)),
            "plan.failed" => What::PlanEnded(PlanEnd::Failed, Some(self.totals()?)),
            "plan.child_created" => What::ChildCreated(self.amounts("hold")?),
            "budget.topped_up" => {
                What::ToppedUp { amount: self.amounts("amount")?, limit: self.amounts("limit")? }
            }
            "predicate.checked" => self.checked()?,
            _ => match kind.split_once('.')? {
                ("transition", verb) => self.transition(verb)?,
                ("budget" | "lease", _) => self.held(kind)?,
                ("execution" | "artifact" | "secret" | "stream", _) => self.execution(kind)?,
                _ => What::Noted,
            },
        })
    }

    fn creation(&self) -> Option<Creation> {
        let policy = self.data.get("policy")?;
        let fails = |name| Some(policy.get(name)?.as_str()? == "fail");
        Some(Creation {
            limit: self.amounts("limit")?,
            transitions: self.count("transitions")?,
            fails_on_refused: fails("on_refused")?,
            fails_on_breach: fails("on_breach")?,
            registry_snapshot: self.text("registry_snapshot")?,
            goal: self.predicates("goal")?,
        })
    }

    fn totals(&self) -> Option<Box<Totals>> {
        let stated = self.data.get("counts")?;
        let mut counts = [0; 5];
        for (slot, name) in
            counts.iter_mut().zip(["succeeded", "failed", "skipped", "cancelled", "refused"])
        {
            *slot = count(stated, name)?;
        }
        let answers = self.data.get("verdicts")?.as_array()?.iter().map(answer);
        let answers = answers.collect::<Option<_>>()?;
        Some(Box::new(Totals { counts, spent: self.amounts("spent")?, answers }))
    }

    fn transition(&mut self, verb: &str) -> Option<What> {
        Some(match verb {
            "proposed" => What::Proposed(Box::new(self.proposal()?)),
            "admitted" => {
                let write_prefix = self.text("write_prefix")?;
                self.hold_canonical(&write_prefix);
                let write_set = self.paths("write_set", true)?;
                What::Admitted { write_prefix, write_set, inputs_hash: self.text("inputs_hash")? }
            }
            "refused" => {
                let code = self.data.get("error")?.get("code")?.as_str()?;
                let over_budget = code == "ERR_BUDGET_EXCEEDED";
                What::Refused { transition: self.text("transition")?, over_budget }
            }
            "skipped" => What::Skipped {
                transition: self.text("transition")?,
                because: self.text("because")?,
            },
            "cancelled" => What::Cancelled {
                transition: self.text("transition")?,
                execution_id: self.text("execution_id"),
                attempt: self.count("attempt"),
            },
            "retried" => What::Retried { next_attempt: self.count("next_attempt")? },
            "succeeded" => What::Ended(Ending::Succeeded),
            "failed" => What::Ended(Ending::Failed),
            _ => return None,
        })
    }

    fn proposal(&mut self) -> Option<Proposal> {
        let depends_on = self.data.get("depends_on")?.as_array()?.iter();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Proposal {
            transition: self.text("transition")?,
            depends_on: depends_on.map(text).collect::<Option<_>>()?,
            write_prefix: self.text("write_prefix")?,
            write_set: self.paths("write_set", false)?,
            admission: self.predicates("admission")?,
            success: self.predicates("success")?,
            hold: self.amounts("hold")?,
            work: self.work()?,
        })
    }

    fn work(&self) -> Option<Work> {
        Some(Work {
            processor_ref: self.text("processor_ref")?,
            mode: self.text("mode")?,
            timeout_ms: self.data.get("timeout_ms")?.as_int()?,
        })
    }

    fn checked(&self) -> Option<What> {
        let scope = match self.data.get("scope")?.as_str()? {
            "admission" => Scope::Admission,
            "success" => Scope::Success,
            _ => Scope::Other,
        };
        let (transition, execution_id) = (self.text("transition"), self.text("execution_id"));
        let answer = answer(self.data.get("verdict")?)?;
        Some(What::Checked { scope, transition, execution_id, answer })
    }

    fn held(&mut self, kind: &str) -> Option<What> {
        Some(match kind {
            "lease.acquired" => {
                let paths = self.paths("selectors", true)?;
                What::LeaseAcquired { paths, epoch: self.count("epoch")? }
            }
            "lease.released" => What::LeaseReleased,
            "lease.expired" => What::LeaseExpired { epoch: self.count("epoch")? },
            "budget.reserved" => {
                What::Reserved { hold: self.amounts("hold")?, epoch: self.count("epoch")? }
            }
            "budget.settled" => What::Settled {
                hold: self.amounts("hold")?,
                actual: self.amounts("actual")?,
                basis: self.basis()?,
            },
            "budget.voided" => What::Voided(self.amounts("hold")?),
            "budget.breached" => What::Breached(self.amounts("excess")?),
            _ => return None,
        })
    }

    fn execution(&mut self, kind: &str) -> Option<What> {
        Some(match kind {
            "execution.started" => What::Started {
                work: self.work()?,
                inputs_hash: self.text("inputs_hash")?,
                registry_snapshot: self.text("registry_snapshot")?,
            },
            "execution.controlled" => What::Controlled(Op::read(self.data)?),
            "execution.succeeded" => What::ExecutionEnded(Outcome::Succeeded),
            "execution.failed" => What::ExecutionEnded(Outcome::Failed),
            "execution.cancelled" => What::ExecutionEnded(Outcome::Cancelled),
            "execution.orphaned" => What::ExecutionEnded(Outcome::Orphaned),
            "execution.duplicate" => What::Duplicate,
            "execution.memo_hit" => What::MemoHit,
            "artifact.produced" => What::Produced(Part {
                number: self.count("part")?,
                of: self.count("parts")?,
                paths: self.paths("outputs", true)?,
            }),
            "artifact.consumed" => {
                self.paths("inputs", true)?;
                What::Used
            }
            "secret.used" => What::Used,
            "stream.sealed" if self.data.get("attempt").is_some() => What::Used,
            "stream.sealed" | "artifact.erased" => What::Noted,
            _ => return None,
        })
    }

    fn name(&self) -> Option<Name> {
        Some(Name {
            execution_id: self.text("execution_id")?,
            transition: self.text("transition")?,
            attempt: self.count("attempt")?,
            own: false,
        })
    }

    /// The name, with the answer whether its id is the attempt's own.
    fn own(&self, name: Name) -> Name {
        let plan = self.plan.rsplit('/').next().unwrap_or_default();
        // A one-shot run's plan carries the id that its caller gave to the first attempt.
        let given = name.attempt == 1
            && plan.strip_prefix("run-").is_some_and(|id| id == name.execution_id);
        let number = i64::try_from(name.attempt).unwrap_or_default();
        let derived = || ids::execution_id(self.plan, &name.transition, number);
        let own = given || derived().is_ok_and(|id| id == name.execution_id);
        Name { own, ..name }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.data.get(name)?.as_str().map(str::to_owned)
    }

    fn count(&self, name: &str) -> Option<u64> {
        count(self.data, name)
    }

    fn amounts(&self, name: &str) -> Option<Amounts> {
        Amounts::read(self.data.get(name)?)
    }

    fn basis(&self) -> Option<Basis> {
        let stated = self.data.get("basis")?;
        let mut basis = Basis::default();
        for (slot, dimension) in basis.iter_mut().zip(DIMENSIONS) {
            *slot = stated.get(dimension).and_then(Value::as_str).map(|word| word == "hold");
        }
        Some(basis)
    }

    fn predicates(&self, name: &str) -> Option<Vec<Asked>> {
        self.data.get(name)?.as_array()?.iter().map(asked).collect()
    }

    /// The paths of a list of objects.
    fn paths(&mut self, name: &str, expanded: bool) -> Option<Vec<String>> {
        let items = self.data.get(name)?.as_array()?;
        let mut paths = Vec::with_capacity(items.len());
        for item in items {
            let path = item.get("path")?.as_str()?;
            if expanded {
                self.hold_canonical(path);
            }
            paths.push(path.to_owned());
        }
        Some(paths)
    }

    fn hold_canonical(&mut self, path: &str) {
        if is_plain(path) {
            return;
        }
        let root = PlanAddress::parse(self.plan).ok();
        self.stray = self.stray || canonical_path(path, root.as_ref()).as_deref() != Some(path);
    }
}

/// Whether a path of the right shape is canonical at first sight: short, of lower-case ASCII, and
/// no segment starts with a dot.
fn is_plain(path: &str) -> bool {
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/');
    path.len() <= SEGMENT_BYTES && path.bytes().all(plain) && !path.contains("/.")
}

/// The canonical form of a plan-relative path.
pub(super) fn canonical_path(path: &str, root: Option<&PlanAddress>) -> Option<String> {
    WorldPath::parse(path, root).ok().map(|path| path.relative())
}

fn count(value: &Value, name: &str) -> Option<u64> {
    value.get(name)?.as_int().and_then(|number| u64::try_from(number).ok())
}

fn answer(verdict: &Value) -> Option<Answer> {
    let holds = verdict.get("verdict")?.as_str()? == "true";
    Some(Answer { asked: asked(verdict)?, holds, at_seq: count(verdict, "at_seq")? })
}

/// What a predicate or a verdict asks: the digest of name and parameters.
fn asked(value: &Value) -> Option<Asked> {
    let mut hasher = digest::Hasher::new();
    hasher.update(value.get("name")?.as_str()?.as_bytes());
    // No name of a predicate has a line feed.
    hasher.update(b"\n");
    hasher.update(&canonical(value.get("params")?));
    Some(hasher.bytes())
}
