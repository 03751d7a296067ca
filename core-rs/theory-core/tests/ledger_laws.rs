//! Every shared vector about the laws of a ledger, and the shapes of event data.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod cases;

use std::fs;

use cases::{cases, folder, is_valid, items, member, text};
use theory_core::chain::Chain;
use theory_core::digest;
use theory_core::json::{Value, parse};
use theory_core::laws::{Law, fits};
use theory_core::verify::{Expectations, Fault, Report, Start, Verifier};

const LAWS: Expectations =
    Expectations { head: None, start: Start::First, allow_empty: false, laws: true };

fn groups() -> Vec<Value> {
    let document = parse(&fs::read(folder("laws/plan.json")).unwrap()).unwrap();
    items(member(&document, "testGroups")).to_vec()
}

/// The member or element of that name; an event's data and everything below may be changed.
fn spot<'a>(value: &'a mut Value, name: &Value) -> &'a mut Value {
    match (value, name) {
        (Value::Array(items), Value::Int(index)) => &mut items[usize::try_from(*index).unwrap()],
        (Value::Object(members), Value::Str(name)) => {
            let place = members.iter().position(|(key, _)| key == name).unwrap_or_else(|| {
                members.push((name.clone(), Value::Null));
                members.len() - 1
            });
            &mut members[place].1
        }
        (value, name) => panic!("no {name:?} in {value:?}"),
    }
}

fn named(name: &str) -> Value {
    Value::Str(name.to_owned())
}

fn place(value: &Value) -> usize {
    usize::try_from(value.as_int().unwrap()).unwrap() - 1
}

fn edited(events: &[Value], edits: &[Value]) -> Vec<Value> {
    let mut made = events.to_vec();
    for edit in edits {
        let [verb, at, rest @ ..] = items(edit) else { panic!("no edit: {edit:?}") };
        let at = place(at);
        match (verb.as_str().unwrap(), rest) {
            ("drop", []) => drop(made.remove(at)),
            ("copy", [before]) => made.insert(place(before), made[at].clone()),
            ("put", [event]) => made.insert(at, event.clone()),
            ("change", [path, value @ ..]) => change(&mut made[at], items(path), value.first()),
            (verb, _) => panic!("no edit: {verb}"),
        }
    }
    made
}

/// Puts a value at the end of a path, or takes the member away that is there.
fn change(event: &mut Value, path: &[Value], value: Option<&Value>) {
    let (last, path) = path.split_last().unwrap();
    let above = path.iter().fold(event, spot);
    match (value, above) {
        (Some(value), above) => *spot(above, last) = value.clone(),
        (None, Value::Object(members)) => members.retain(|(name, _)| last.as_str() != Some(name)),
        (None, other) => panic!("no member to remove: {other:?}"),
    }
}

/// Lines of the export of a ledger of these events.
fn export(plan: &str, events: &[Value]) -> Vec<Vec<u8>> {
    let full = |(index, event): (usize, &Value)| {
        let mut members = event.as_object().unwrap().to_vec();
        let seq = i64::try_from(index + 1).unwrap();
        members.push(("v".to_owned(), named("theory.event.v1")));
        members.push(("plan".to_owned(), named(plan)));
        members.push(("at".to_owned(), named("2026-11-21T04:25:00.123456Z")));
        members.push(("seq".to_owned(), Value::Int(seq)));
        Value::Object(members)
    };
    let events: Vec<Value> = events.iter().enumerate().map(full).collect();
    let sealed = Chain::default().append(&events).unwrap();
    let line = |event: theory_core::chain::Sealed| {
        let hash = digest::written(&event.hash);
        [b"{\"event\":".as_slice(), &event.bytes, b",\"hash\":\"", hash.as_bytes(), b"\"}\n"]
            .concat()
    };
    sealed.into_iter().map(line).collect()
}

fn report(lines: &[Vec<u8>]) -> Report {
    let mut verifier = Verifier::new(LAWS, Some(1)).unwrap();
    verifier.feed(&lines.concat());
    verifier.finish()
}

#[test]
fn ledgers_are_lawful_at_every_prefix_or_name_their_law() {
    let mut broken = Vec::new();
    for group in groups() {
        for case in items(member(&group, "tests")) {
            let label = text(case, "comment");
            let events = edited(items(member(&group, "events")), items(member(case, "edits")));
            let lines = export(text(&group, "plan"), &events);
            let found = report(&lines);
            let whole = if items(member(case, "edits")).is_empty() { lines.len() } else { 0 };
            for end in 1..=whole {
                assert_eq!(report(&lines[..end]).fault, None, "{label}, up to {end}");
            }
            let Some(Fault { seq, line, reason }) = found.fault else {
                assert!(is_valid(case) && found.laws, "{label}");
                continue;
            };
            let expected = member(case, "fault");
            assert_eq!(reason.as_str(), text(expected, "reason"), "{label}");
            assert_eq!(seq, Some(line), "{label}");
            assert_eq!(Some(line), member(expected, "seq").as_int().map(i64::unsigned_abs));
            let law = expected.get("law").and_then(Value::as_str);
            assert_eq!(reason.law().map(Law::as_str), law, "{label}");
            assert_eq!(reason.member(), expected.get("member").and_then(Value::as_str), "{label}");
            broken.extend(reason.law());
        }
    }
    let missed: Vec<_> = Law::ALL.iter().filter(|law| !broken.contains(law)).collect();
    assert!(missed.is_empty(), "laws without a case: {missed:?}");
}

#[test]
fn the_shapes_of_data_are_those_of_the_schemas() {
    let mut judged = 0;
    for entry in fs::read_dir(folder("events")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".schema.json") {
            continue;
        }
        let every = cases(&format!("events/{name}"));
        let (_, sealed) = &every[0];
        let kind = text(member(sealed, "event"), "kind");
        let data = member(member(sealed, "event"), "data");
        assert_eq!(fits(kind, data), Some(true), "{kind}");
        for (label, case) in &every[1..] {
            let removed = case.get("remove").map(|names| items(names).to_vec());
            let removed = removed.unwrap_or_default();
            let changed = case.get("change").and_then(Value::as_object).unwrap_or_default();
            let mut members = data.as_object().unwrap().to_vec();
            members.retain(|(name, _)| !removed.contains(&named(name)));
            members.retain(|(name, _)| !changed.iter().any(|(key, _)| key == name));
            members.extend(changed.iter().cloned());
            judged += 1;
            assert_eq!(fits(kind, &Value::Object(members)), Some(is_valid(case)), "{label}");
        }
    }
    assert!(judged > 1700, "{judged} cases");
    assert_eq!(fits("plan.admired", &Value::Object(Vec::new())), None);
}

#[test]
fn the_names_of_laws_are_words_and_differ() {
    for (index, law) in Law::ALL.iter().enumerate() {
        assert!(law.as_str().bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()));
        assert!(Law::ALL[..index].iter().all(|other| other.as_str() != law.as_str()), "{law}");
        assert!(!law.words().is_empty());
    }
}

#[test]
fn a_part_is_not_judged_by_laws() {
    for start in
        [Start::After { seq: None, hash: [0; 32] }, Start::After { seq: Some(3), hash: [0; 32] }]
    {
        let refused = Verifier::new(Expectations { start, ..LAWS }, None);
        assert!(refused.is_err());
    }
}
