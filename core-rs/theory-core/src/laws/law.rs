//! The laws of plans and budgets, by name: what the judge can find broken.

use std::fmt;

macro_rules! laws {
    ($($(#[$doc:meta])* $law:ident $name:literal $words:literal,)*) => {
        /// A law that holds at every prefix of a ledger (spec: ledger laws).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Law {
            $(#[doc = $words] $law,)*
        }

        impl Law {
            /// Every law, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$law,)*];

            /// The law's stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$law => $name,)* }
            }

            /// The law in words.
            #[must_use]
            pub fn words(self) -> &'static str {
                match self { $(Self::$law => $words,)* }
            }
        }
    };
}

laws! {
    PlanCreated "plan-created" "a ledger begins with its one plan.created",
    PlanEnded "plan-ended" "nothing follows the end of a plan",
    PlanStatus "plan-status" "a plan is paused, resumed and cancelled in order",
    PlanOpen "plan-open" "a plan ends when each of its transitions has ended",
    PlanGoal "plan-goal" "a plan completes exactly when its goal is reached",
    PlanTotals "plan-totals" "a plan ends with the counts and the spending of its events",
    TransitionKnown "transition-known" "a transition is proposed once, before all else about it",
    TransitionOrder "transition-order" "a transition goes from pending to applying to its one end",
    TransitionEnd "transition-end" "a transition ends as its execution did",
    RetryNext "retry-next" "a retry raises the attempt by one",
    SkipCause "skip-cause" "a skip names a dependency that did not succeed",
    AdmissionPlan "admission-plan" "only a plan that is active and not failing admits",
    AdmissionBreach "admission-breach" "a breached budget admits nothing before a top-up",
    AdmissionDependencies "admission-dependencies" "every dependency succeeded before admission",
    AdmissionPredicates "admission-predicates" "every admission predicate was true at admission",
    SuccessPredicates "success-predicates" "every success predicate was true of a success",
    PredicateScope "predicate-scope" "a predicate is checked in its scope, on the past",
    ExecutionId "execution-id" "an attempt has its one execution id",
    ExecutionKnown "execution-known" "an event is about an attempt that is open",
    ExecutionOrder "execution-order" "an attempt reserves, starts, ends and settles in this order",
    ExecutionProposed "execution-proposed" "what starts is what was proposed and admitted",
    WriteSet "write-set" "an attempt holds the proposed write set, expanded",
    PathCanonical "path-canonical" "a path is in canonical form",
    LeaseOverlap "lease-overlap" "overlapping leases never coexist",
    LeasePair "lease-pair" "a lease is acquired once and released or expires once",
    Epoch "epoch" "the epoch of the owner never falls",
    BudgetAsk "budget-ask" "an attempt reserves what was proposed",
    BudgetLimit "budget-limit" "an admission keeps spent + reserved + ask within the limit",
    BudgetOnce "budget-once" "an attempt reserves once and settles or voids once",
    BudgetHold "budget-hold" "a settle or void returns the hold that was reserved",
    BudgetBasis "budget-basis" "unknown usage settles at the hold",
    BudgetVoid "budget-void" "a void is for work that did not run",
    BudgetBreach "budget-breach" "usage beyond the hold is followed by its breach",
    BudgetTopUp "budget-top-up" "a top-up raises limits by its amount",
    BudgetSum "budget-sum" "sums stay within 2^53 - 1",
    RefusalBudget "refusal-budget" "a budget refuses what cannot fit when every hold returns",
    ChildHold "child-hold" "a child plan has the hold of its open attempt",
    ArtifactOpen "artifact-open" "only an execution that runs produces",
    ArtifactPlace "artifact-place" "outputs lie below the write prefix or in the records",
    ArtifactParts "artifact-parts" "the parts of one list follow each other",
    ProposalHold "proposal-hold" "what a run proposes holds no more than its own hold has left",
    ExecutionControl "execution-control" "what runs is controlled in order, until it is cancelled",
}

impl fmt::Display for Law {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.as_str(), self.words())
    }
}
