//! The shared vectors of limits, and those of what RFC 8259 leaves open.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cases;
#[path = "cases/input.rs"]
mod input;

use cases::{cases, check_refusal, is_valid, member, text};
use input::input;
use theory_core::chain::Chain;
use theory_core::envelope::{self, Expect};
use theory_core::frames::{Frame, Sender};
use theory_core::json::{Value, canonicalize_json, parse};

#[test]
fn what_the_json_standard_leaves_open_is_decided() {
    for (label, case) in cases("json/decisions.json") {
        match (is_valid(&case), canonicalize_json(&input(&case))) {
            (true, Ok(answer)) => {
                assert_eq!(answer, text(&case, "canonical").as_bytes(), "{label}");
            }
            (false, Err(error)) => check_refusal(&label, &case, &error, &[]),
            (_, outcome) => panic!("{label}: {outcome:?}"),
        }
    }
}

#[test]
fn events_have_a_size_and_a_depth() {
    for (label, case) in cases("chain/limits.json") {
        let event = parse(&input(&case)).unwrap();
        match (is_valid(&case), Chain::default().append(&[event])) {
            (true, Ok(sealed)) => {
                let size = i64::try_from(sealed[0].bytes.len()).unwrap();
                assert_eq!(Some(size), member(&case, "size_bytes").as_int(), "{label}");
            }
            (false, Err(error)) => check_refusal(&label, &case, &error, &[]),
            (_, outcome) => panic!("{label}: {outcome:?}"),
        }
    }
}

#[test]
fn frames_have_a_size_and_their_parts_too() {
    for (label, case) in cases("frames/limits.json") {
        let sender =
            if text(&case, "direction") == "client" { Sender::Client } else { Sender::Server };
        let wire = input(&case);
        match (is_valid(&case), Frame::read(&wire, sender)) {
            (true, Ok(frame)) => assert!(frame.encode().unwrap() == wire, "{label}"),
            (false, Err(error)) => {
                check_refusal(&label, &case, &error, &["close", "place", "problem"]);
            }
            (_, outcome) => panic!("{label}: {outcome:?}"),
        }
    }
}

#[test]
fn an_execution_has_so_many_outputs() {
    for (label, case) in cases("envelope/limits.json") {
        let prefix = text(&case, "write_prefix");
        let facts = member(&case, "output").as_object().unwrap();
        let output = |number: i64| {
            let path = Value::Str(format!("{prefix}outputs/{number:06}"));
            let members = facts.iter().cloned();
            Value::Object(members.chain([("path".to_owned(), path)]).collect())
        };
        let outputs = (0..member(&case, "outputs").as_int().unwrap()).map(output).collect();
        let members = member(&case, "envelope").as_object().unwrap().iter().cloned();
        let outputs = [("outputs".to_owned(), Value::Array(outputs))];
        let envelope = Value::Object(members.chain(outputs).collect());
        match (is_valid(&case), envelope::validate(envelope, &Expect::default())) {
            (true, Ok(_)) => {}
            (false, Err(error)) => check_refusal(&label, &case, &error, &[]),
            (_, outcome) => panic!("{label}: {:?}", outcome.map(|_| "accepted")),
        }
    }
}
