//! The kinds of events and the closed shape of the data of each.
//!
//! The tables say what the JSON Schemas of `core-rs/vectors/events` say, in other words; tests hold
//! both to the same verdict on every vector and on mutated data.

use super::types::Type::{Either, Integer, Json, List, Map, Named, Object, OneOf, Set, Text, Word};
use super::types::{Member, Misfit, Type, fit, may, must};
use super::words as w;
use crate::facts::DIMENSIONS;
use crate::json::Value;
use crate::number::MAX_SAFE_INTEGER as MAX;

type Group = &'static [Member];

/// Holds data to the shape of its kind.
///
/// None: no event has this kind. Otherwise the first member that departs from its type.
pub(super) fn check(kind: &str, data: &Value) -> Option<Result<(), Misfit>> {
    let family = kind.split_once('.').map(|(family, _)| family);
    let shape: &[Group] = match family {
        Some("audit") => &[AUDIT],
        Some("thread") => &[THREAD],
        _ => {
            let place = KINDS.binary_search_by(|(name, _)| (*name).cmp(kind)).ok()?;
            KINDS.get(place)?.1
        }
    };
    Some(fit(data, shape).and_then(|()| check_naming(kind, data)))
}

/// Laws: an attempt is named by all three members or by none, and a person only without one; a
/// budget comes with `set_budget` and with nothing else.
fn check_naming(kind: &str, data: &Value) -> Result<(), Misfit> {
    let named = NAMING.iter().filter(|name| data.get(name).is_some()).count();
    let by = kind == "artifact.produced" && data.get("by").is_some();
    let holds = match kind {
        "artifact.produced" | "stream.sealed" => named == 0 || (named == NAMING.len() && !by),
        "execution.controlled" => {
            let sets = data.get("op").and_then(Value::as_str) == Some("set_budget");
            sets == data.get("budget").is_some()
        }
        _ => true,
    };
    if holds { Ok(()) } else { Err(None) }
}

const NAMING: [&str; 3] = ["execution_id", "transition", "attempt"];

const ID: Type = Word(w::is_name);
const PLAN: Type = Word(w::is_plan);
const B3: Type = Word(w::is_b3);
const COUNT: Type = Integer(0, MAX);
const ORDINAL: Type = Integer(1, MAX);
const NUMBER: Type = Integer(1, 1000);
const SHORT: Type = Text(255);
const REASON: Type = Text(1024);
const EXACT: Type = Word(w::is_exact);
const MODE: Type = OneOf(&["mock", "real"]);
const VECTOR: Type = Named(&DIMENSIONS, &COUNT);
const FACTS: Type = Map(&[Integer(-MAX, MAX), Word(|_| true)]);
const PARAMS: Type = Map(&[Json]);
const PREDICATE: Type = Object(&[must("name", Word(w::is_predicate)), must("params", PARAMS)]);
const PREDICATES: Type = List(&PREDICATE, 0, usize::MAX);
const VERDICT: Type = Object(&[
    must("name", Word(w::is_predicate)),
    must("params", PARAMS),
    must("verdict", OneOf(&["true", "false", "error"])),
    must("reason", REASON),
    must("at_seq", COUNT),
]);
const ERROR: Type =
    Object(&[must("code", Word(w::is_code)), must("message", REASON), must("detail", FACTS)]);
const SELECTOR: Type = Either(&[
    Object(&[must("kind", OneOf(&["prefix"])), must("path", Word(w::is_prefix))]),
    Object(&[must("kind", OneOf(&["exact"])), must("path", EXACT)]),
]);
const SELECTORS: Type = List(&SELECTOR, 1, usize::MAX);
const TEMPLATES: Type = List(
    &Object(&[must("kind", OneOf(&["prefix", "exact"])), must("path", Word(w::is_template))]),
    1,
    usize::MAX,
);
const COUNTS: Type = Object(&[
    must("succeeded", COUNT),
    must("failed", COUNT),
    must("skipped", COUNT),
    must("cancelled", COUNT),
    must("refused", COUNT),
]);
const POLICY: Type = Object(&[
    must("ref", SHORT),
    must("on_refused", OneOf(&["fail", "pause"])),
    must("on_breach", OneOf(&["fail", "pause"])),
    must("lease_ms", COUNT),
    must(
        "retry",
        Object(&[
            must("max_attempts", Integer(1, 100)),
            must("backoff_ms", List(&COUNT, 1, usize::MAX)),
            must("jitter_permille", Integer(0, 1000)),
            must("retry_on", List(&Word(w::is_code), 0, usize::MAX)),
        ]),
    ),
]);

const ATTEMPT: Group = &[must("execution_id", ID), must("transition", ID), must("attempt", NUMBER)];
const MAYBE_ATTEMPT: Group =
    &[may("execution_id", ID), may("transition", ID), may("attempt", NUMBER)];
const STOPPED: Group = &[must("by", SHORT), must("reason", REASON)];
const TOTALS: Group = &[
    must("verdicts", List(&VERDICT, 0, usize::MAX)),
    must("counts", COUNTS),
    must("spent", VECTOR),
];
const ENDED: Group = &[
    must("error", ERROR),
    must("envelope", B3),
    may("receipt", B3),
    may("trace", B3),
    must("duration_ms", COUNT),
];
const AUDIT: Group = &[
    must("by", SHORT),
    must("action", SHORT),
    must("target", SHORT),
    must("outcome", OneOf(&["allowed", "denied"])),
    must("detail", FACTS),
];
const THREAD: Group =
    &[must("thread", ID), must("by", SHORT), must("body", B3), may("subject", SHORT)];
const PROPOSED: Group = &[
    must("transition", ID),
    must("processor_ref", Word(w::is_ref)),
    may("adapter", SHORT),
    must("mode", MODE),
    must("inputs", B3),
    must("depends_on", Set(w::is_name)),
    must("write_prefix", Word(w::is_template)),
    must("write_set", TEMPLATES),
    must("admission", PREDICATES),
    must("success", PREDICATES),
    must("hold", VECTOR),
    must("timeout_ms", COUNT),
    may("on_fail", ID),
    may("trigger", SHORT),
    must("by", SHORT),
];
const CREATED: Group = &[
    must("schema", OneOf(&["theory.plan.v1"])),
    must("document", B3),
    must("transitions", COUNT),
    must("limit", VECTOR),
    must("policy", POLICY),
    must("lane", OneOf(&["build", "dev", "staging", "main"])),
    must("registry_snapshot", B3),
    must("goal", PREDICATES),
    must("invariants", PREDICATES),
    must("by", SHORT),
    may("parent", PLAN),
];
const STARTED: Group = &[
    must("processor_ref", Word(w::is_ref)),
    must("adapter", SHORT),
    must("mode", MODE),
    must("timeout_ms", COUNT),
    must("inputs", B3),
    must("inputs_hash", B3),
    must("env_fingerprint", Text(1024)),
    must("registry_snapshot", B3),
    may("image_digest", Word(w::is_oci)),
];
const SUCCEEDED: Group = &[
    must("envelope", B3),
    must("receipt", B3),
    must("outputs_index", B3),
    must("outputs", COUNT),
    must("output_bytes", COUNT),
    may("trace", B3),
    must("duration_ms", COUNT),
];
const INPUT: Type = Object(&[must("path", EXACT), must("cid", B3), must("size_bytes", COUNT)]);
const OUTPUT: Type = Object(&[
    must("path", EXACT),
    must("cid", B3),
    must("size_bytes", COUNT),
    must("mime", Word(w::is_mime)),
]);
const BASIS: Type = Named(&DIMENSIONS, &OneOf(&["measured", "reported", "hold"]));

/// Kind and shape, in the order of the kinds; the families `audit` and `thread` are apart.
static KINDS: &[(&str, &[Group])] = &[
    ("artifact.consumed", &[ATTEMPT, &[must("inputs", List(&INPUT, 1, 500))]]),
    ("artifact.erased", &[STOPPED, &[must("path", EXACT), must("cid", B3)]]),
    (
        "artifact.produced",
        &[
            MAYBE_ATTEMPT,
            &[
                may("by", SHORT),
                must("part", ORDINAL),
                must("parts", ORDINAL),
                must("outputs", List(&OUTPUT, 1, 500)),
            ],
        ],
    ),
    ("budget.breached", &[ATTEMPT, &[must("excess", VECTOR)]]),
    (
        "budget.reserved",
        &[
            ATTEMPT,
            &[
                must("hold", VECTOR),
                must("duration_ms", COUNT),
                must("owner", SHORT),
                must("epoch", COUNT),
            ],
        ],
    ),
    (
        "budget.settled",
        &[
            ATTEMPT,
            &[
                must("hold", VECTOR),
                must("actual", VECTOR),
                must("basis", BASIS),
                may("receipt", B3),
            ],
        ],
    ),
    ("budget.topped_up", &[&[must("amount", VECTOR), must("limit", VECTOR), must("by", SHORT)]]),
    ("budget.voided", &[ATTEMPT, &[must("hold", VECTOR), must("reason", REASON)]]),
    (
        "checkpoint.published",
        &[&[must("origin", SHORT), must("size", COUNT), must("root", SHORT), must("note", B3)]],
    ),
    ("execution.cancelled", &[ATTEMPT, ENDED]),
    (
        "execution.controlled",
        &[
            ATTEMPT,
            &[
                must("op", OneOf(&["cancel", "pause", "resume", "set_budget"])),
                may("budget", VECTOR),
            ],
            STOPPED,
        ],
    ),
    ("execution.duplicate", &[ATTEMPT, &[must("envelope", B3)]]),
    ("execution.failed", &[ATTEMPT, ENDED]),
    (
        "execution.memo_hit",
        &[
            ATTEMPT,
            &[
                must("memo_key", B3),
                must("origin", Object(&[must("plan", PLAN), must("execution_id", ID)])),
                must("outputs_index", B3),
            ],
        ],
    ),
    ("execution.orphaned", &[ATTEMPT, &[must("error", ERROR)]]),
    ("execution.started", &[ATTEMPT, STARTED]),
    ("execution.succeeded", &[ATTEMPT, SUCCEEDED]),
    (
        "gate.verdict",
        &[
            STOPPED,
            &[
                must("gate", SHORT),
                must("subject", SHORT),
                must("verdict", OneOf(&["pass", "fail"])),
            ],
        ],
    ),
    (
        "lease.acquired",
        &[
            ATTEMPT,
            &[must("selectors", SELECTORS), must("duration_ms", COUNT), must("epoch", COUNT)],
        ],
    ),
    ("lease.expired", &[ATTEMPT, &[must("epoch", COUNT)]]),
    ("lease.released", &[ATTEMPT]),
    ("memo.revoked", &[STOPPED, &[must("memo_key", B3)]]),
    ("operator.override", &[STOPPED, &[must("what", REASON)]]),
    ("plan.cancel_requested", &[STOPPED]),
    ("plan.cancelled", &[STOPPED]),
    ("plan.child_created", &[ATTEMPT, &[must("child", PLAN), must("hold", VECTOR)]]),
    ("plan.completed", &[TOTALS]),
    ("plan.created", &[CREATED]),
    ("plan.escalated", &[&[must("reason", REASON), may("verdict", VERDICT)]]),
    ("plan.failed", &[TOTALS, &[must("error", ERROR)]]),
    ("plan.paused", &[STOPPED]),
    ("plan.resumed", &[STOPPED]),
    (
        "predicate.checked",
        &[&[
            must("scope", OneOf(&["success", "admission", "invariant", "goal"])),
            may("transition", ID),
            may("execution_id", ID),
            must("verdict", VERDICT),
        ]],
    ),
    ("predicate.regressed", &[&[must("scope", OneOf(&["invariant"])), must("verdict", VERDICT)]]),
    ("secret.used", &[ATTEMPT, &[must("name", Word(w::is_secret))]]),
    (
        "segment.sealed",
        &[&[
            must("first_seq", ORDINAL),
            must("last_seq", ORDINAL),
            must("last_hash", B3),
            must("artifact", Object(&[must("cid", B3), must("size_bytes", COUNT)])),
        ]],
    ),
    (
        "stream.sealed",
        &[
            MAYBE_ATTEMPT,
            &[must("path", EXACT), must("digest", B3), must("count", COUNT), must("bytes", COUNT)],
        ],
    ),
    (
        "transition.admitted",
        &[
            ATTEMPT,
            &[
                must("write_prefix", Word(w::is_prefix)),
                must("write_set", SELECTORS),
                must("inputs_hash", B3),
            ],
        ],
    ),
    (
        "transition.cancelled",
        &[&[
            must("transition", ID),
            may("attempt", NUMBER),
            may("execution_id", ID),
            must("reason", REASON),
        ]],
    ),
    ("transition.failed", &[ATTEMPT, &[must("error", ERROR)]]),
    ("transition.proposed", &[PROPOSED]),
    ("transition.refused", &[&[must("transition", ID), must("error", ERROR)]]),
    (
        "transition.retried",
        &[ATTEMPT, &[must("next_attempt", NUMBER), must("delay_ms", COUNT), must("error", ERROR)]],
    ),
    ("transition.skipped", &[&[must("transition", ID), must("because", ID)]]),
    ("transition.succeeded", &[ATTEMPT]),
];

#[cfg(test)]
mod tests {
    use super::KINDS;

    #[test]
    fn the_kinds_stand_in_their_order() {
        assert!(KINDS.is_sorted_by(|(before, _), (after, _)| before < after));
        assert_eq!(KINDS.len(), 45);
    }
}
