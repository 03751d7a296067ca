//! Every shared vector about events, chains, exports, execution ids and error codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cases;

use std::fs;

use cases::{cases, check_refusal, folder, is_valid, items, member, text};
use theory_core::catalogue::{CATALOGUE, find};
use theory_core::chain::{Chain, Link, hash_one, read_stored};
use theory_core::digest;
use theory_core::event::place;
use theory_core::ids::execution_id;
use theory_core::json::{Value, canonical};
use theory_core::verify::{Expectations, Reason, Report, Start, Verifier};

/// A hash, or seq and hash with or without a time stamp.
fn link(prev: &Value) -> Option<Link> {
    match prev {
        Value::Null => None,
        Value::Str(hash) => Some(Link { seq: None, hash: digest::read(hash).unwrap(), at: None }),
        pair => {
            let (seq, hash) = head(pair);
            let at = items(pair).get(2).and_then(Value::as_str).map(str::to_owned);
            Some(Link { seq: Some(seq), hash, at })
        }
    }
}

fn head(pair: &Value) -> (u64, [u8; 32]) {
    let seq = items(pair)[0].as_int().unwrap();
    (seq.try_into().unwrap(), digest::read(items(pair)[1].as_str().unwrap()).unwrap())
}

#[test]
fn every_kind_of_event_has_the_bytes_and_the_hash_of_its_vector() {
    let mut kinds = 0;
    for entry in fs::read_dir(folder("events")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".schema.json") {
            continue;
        }
        kinds += 1;
        let (label, case) = &cases(&format!("events/{name}"))[0];
        let event = member(case, "event");
        assert_eq!(canonical(event), text(case, "canonical").as_bytes(), "{label}");
        let stored = read_stored(text(case, "canonical").as_bytes()).unwrap();
        let prev = digest::read(text(case, "prev")).unwrap();
        for event in [event, &stored] {
            assert_eq!(place(event).unwrap().seq, 7, "{label}");
            let hash = hash_one(Some(prev), event).unwrap();
            assert_eq!(digest::written(&hash), text(case, "hash"), "{label}");
        }
    }
    assert!(kinds >= 46, "{kinds} kinds");
}

#[test]
fn chains_seal_or_refuse() {
    for (label, case) in cases("chain/append.json") {
        let mut chain = Chain::new(link(member(&case, "prev")), None);
        match (is_valid(&case), chain.append(items(member(&case, "events")))) {
            (true, Ok(sealed)) => {
                let expected = items(member(&case, "sealed"));
                assert_eq!(sealed.len(), expected.len(), "{label}");
                for (sealed, pair) in sealed.iter().zip(expected) {
                    let pair = items(pair);
                    assert_eq!(sealed.bytes, pair[0].as_str().unwrap().as_bytes(), "{label}");
                    assert_eq!(Some(digest::written(&sealed.hash).as_str()), pair[1].as_str());
                }
            }
            (false, Err(error)) => {
                check_refusal(&label, &case, &error, &["reason", "member", "index"]);
            }
            (_, outcome) => panic!("{label}: {outcome:?}"),
        }
    }
}

fn report(case: &Value) -> Report {
    let start = match case.get("expect_prev").and_then(link) {
        None => Start::First,
        Some(Link { seq, hash, .. }) => Start::After { seq, hash },
    };
    let expect = Expectations {
        head: case.get("expect_head").map(head),
        start,
        allow_empty: case.get("allow_empty").and_then(Value::as_bool).unwrap_or_default(),
        laws: false,
    };
    let mut verifier = Verifier::new(expect, Some(1)).unwrap();
    verifier.feed(text(case, "export").as_bytes());
    verifier.finish()
}

#[test]
fn exports_are_sound_or_name_their_fault() {
    let mut reasons = Vec::new();
    for (label, case) in cases("chain/export.json") {
        let report = report(&case);
        assert_eq!(Some(report.count), number(member(&case, "count")), "{label}");
        let Some(fault) = report.fault else {
            assert!(is_valid(&case), "{label}");
            let expected = member(&case, "head");
            assert_eq!(report.head, expected.as_array().map(|_| head(expected)), "{label}");
            assert_eq!(Some(report.anchored), member(&case, "anchored").as_bool(), "{label}");
            continue;
        };
        assert!(!is_valid(&case) && !report.anchored, "{label}: {fault}");
        let expected = member(&case, "fault");
        assert_eq!(fault.reason.as_str(), text(expected, "reason"), "{label}");
        assert_eq!(fault.seq, number(member(expected, "seq")), "{label}");
        assert_eq!(Some(fault.line), number(member(expected, "line")), "{label}");
        reasons.push(fault.reason.as_str());
    }
    // The last three belong to laws, which have vectors of their own.
    let (of_chains, _) = Reason::NAMES.split_at(Reason::NAMES.len() - 3);
    assert!(of_chains.iter().all(|name| reasons.contains(name)), "a reason without a case");
}

fn number(value: &Value) -> Option<u64> {
    value.as_int().and_then(|number| number.try_into().ok())
}

#[test]
fn execution_ids_are_computed_alike() {
    for (label, case) in cases("chain/execution_id.json") {
        let attempt = member(&case, "attempt").as_int().unwrap();
        match execution_id(text(&case, "plan"), text(&case, "transition"), attempt) {
            Ok(id) => assert_eq!(id, text(&case, "execution_id"), "{label}"),
            Err(error) => check_refusal(&label, &case, &error, &["member"]),
        }
    }
}

#[test]
fn the_catalogue_has_the_published_codes_and_no_other() {
    let mut published = 0;
    for (label, case) in cases("errors/catalogue.json") {
        let entry = find(text(&case, "code"));
        assert_eq!(entry.is_some(), is_valid(&case), "{label}");
        let Some(entry) = entry else { continue };
        published += 1;
        assert_eq!(Some(i64::from(entry.status)), member(&case, "status").as_int(), "{label}");
        assert_eq!(Some(entry.retryable), member(&case, "retryable").as_bool(), "{label}");
        if let Some(summary) = case.get("summary") {
            assert_eq!(Some(entry.summary), summary.as_str(), "{label}");
        }
    }
    assert_eq!(published, CATALOGUE.len());
}
