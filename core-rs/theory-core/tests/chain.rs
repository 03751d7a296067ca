//! The chain: what it seals, and what it refuses without changing.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use theory_core::chain::{Chain, Link, hash_one, read_stored};
use theory_core::event::{event_hash, is_kind, is_time};
use theory_core::ids::execution_id;
use theory_core::json::{Value, parse};
use theory_core::{Code, Detail, Error};

fn event(seq: u64, at: &str, data: &str) -> Value {
    let text = format!(
        "{{\"v\":\"theory.event.v1\",\"plan\":\"/world/acme/p1\",\"seq\":{seq},\
         \"at\":\"{at}\",\"kind\":\"plan.paused\",\"data\":{data}}}"
    );
    parse(text.as_bytes()).expect("a JSON text")
}

fn at(second: u64) -> String {
    format!("2026-11-21T04:25:{second:02}.000000Z")
}

fn reason(error: &Error) -> Option<String> {
    error.fact("reason").map(ToString::to_string)
}

#[test]
fn a_hash_covers_the_one_before_and_the_bytes() {
    let events: Vec<Value> = (1..=3).map(|seq| event(seq, &at(seq), "{}")).collect();
    let mut chain = Chain::default();
    let sealed = chain.append(&events).expect("sound events");
    assert_eq!(sealed[0].hash, *blake3::hash(&sealed[0].bytes).as_bytes());
    for pair in sealed.windows(2) {
        let joined = [pair[0].hash.as_slice(), &pair[1].bytes].concat();
        assert_eq!(pair[1].hash, *blake3::hash(&joined).as_bytes());
        assert_eq!(pair[1].hash, event_hash(Some(&pair[0].hash), &pair[1].bytes));
    }
    assert_eq!(hash_one(Some(sealed[0].hash), &events[1]), Ok(sealed[1].hash));
    let last = chain.last().expect("three events");
    assert_eq!((last.seq, last.hash), (Some(3), sealed[2].hash));
    assert_eq!(chain.plan(), Some("/world/acme/p1"));
}

#[test]
fn a_chain_resumes_as_if_it_had_never_stopped() {
    let events: Vec<Value> = (1..=4).map(|seq| event(seq, &at(seq), "{}")).collect();
    let whole = Chain::default().append(&events).expect("sound events");
    let last = Link { seq: Some(2), hash: whole[1].hash, at: Some(at(2)) };
    let rest = Chain::new(Some(last), None).append(&events[2..]).expect("sound events");
    assert_eq!(rest, whole[2..]);
}

#[test]
fn a_refused_batch_leaves_the_chain_as_it_was() {
    let mut chain = Chain::default();
    let first = chain.append(&[event(1, &at(1), "{}")]).expect("a sound event");
    let error = chain.append(&[event(2, &at(2), "{}"), event(4, &at(4), "{}")]).unwrap_err();
    assert_eq!(error.code, Code::Inputs);
    assert_eq!(reason(&error).as_deref(), Some("gap"));
    assert_eq!(error.fact("index"), Some(&Detail::Int(1)));
    assert_eq!(chain.last().map(|last| last.hash), Some(first[0].hash));
    chain.append(&[event(2, &at(2), "{}")]).expect("seq 2 is still free");
}

#[test]
fn what_does_not_follow_is_refused() {
    let start = || Chain::new(Some(Link { seq: Some(1), hash: [7; 32], at: Some(at(5)) }), None);
    let cases = [
        (event(1, &at(5), "{}"), "gap"),
        (event(3, &at(5), "{}"), "gap"),
        (event(2, &at(4), "{}"), "order"),
    ];
    for (event, expected) in cases {
        let error = start().append(&[event]).unwrap_err();
        assert_eq!(reason(&error).as_deref(), Some(expected));
    }
    let mut bound = Chain::new(None, Some("/world/acme/p2".to_owned()));
    let error = bound.append(&[event(1, &at(1), "{}")]).unwrap_err();
    assert_eq!(reason(&error).as_deref(), Some("plan"));
    assert_eq!(Chain::default().append(&[event(2, &at(1), "{}")]).unwrap_err().code, Code::Inputs);
    start().append(&[event(2, &at(5), "{}")]).expect("an equal time stamp follows");
}

#[test]
fn numbers_that_are_not_integers_are_refused_at_any_depth() {
    for data in [r#"{"a":1.5}"#, r#"{"a":[{"b":1e300}]}"#, r#"{"a":9007199254740992}"#] {
        let error = Chain::default().append(&[event(1, &at(1), data)]).unwrap_err();
        assert_eq!(error.code, Code::JsonNumber, "{data}");
    }
    Chain::default()
        .append(&[event(1, &at(1), r#"{"a":9007199254740991,"b":-9007199254740991,"c":0}"#)])
        .expect("the largest integers");
}

#[test]
fn each_of_the_six_members_is_held_to_its_type() {
    let whole = event(1, &at(1), "{}");
    let members = whole.as_object().expect("an object").to_vec();
    for (index, (name, _)) in members.iter().enumerate() {
        let mut wrong = members.clone();
        wrong[index].1 = Value::Bool(true);
        let error = Chain::default().append(&[Value::Object(wrong)]).unwrap_err();
        assert_eq!(error.fact("member"), Some(&Detail::from(name.as_str())));
        let mut missing = members.clone();
        missing.remove(index);
        let error = Chain::default().append(&[Value::Object(missing)]).unwrap_err();
        assert_eq!(reason(&error).as_deref(), Some("schema"));
    }
    let mut more = members;
    more.push(("note".to_owned(), Value::Null));
    let error = Chain::default().append(&[Value::Object(more)]).unwrap_err();
    assert_eq!(reason(&error).as_deref(), Some("schema"));
    assert!(Chain::default().append(&[Value::Null]).is_err());
}

#[test]
fn an_event_too_deep_or_too_large_for_an_export_is_refused() {
    // The event has depth 1 + the data's, its line one more; the limit is 256.
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    Chain::default().append(&[event(1, &at(1), &nested(253))]).expect("depth 255");
    let error = Chain::default().append(&[event(1, &at(1), &nested(254))]).unwrap_err();
    assert_eq!(error.code, Code::JsonDepth);

    let frame = Chain::default().append(&[event(1, &at(1), r#"{"a":""}"#)]).expect("small");
    let room = (256 << 10) - frame[0].bytes.len();
    let filled = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
    Chain::default().append(&[event(1, &at(1), &filled(room))]).expect("at the cap");
    let error = Chain::default().append(&[event(1, &at(1), &filled(room + 1))]).unwrap_err();
    assert_eq!(error.code, Code::TooLarge);
}

#[test]
fn stored_bytes_are_read_only_if_canonical() {
    let sealed = Chain::default().append(&[event(1, &at(1), "{}")]).expect("a sound event");
    let value = read_stored(&sealed[0].bytes).expect("canonical bytes");
    assert_eq!(hash_one(None, &value), Ok(sealed[0].hash));
    let spaced = [b" ".as_slice(), &sealed[0].bytes].concat();
    assert_eq!(reason(&read_stored(&spaced).unwrap_err()).as_deref(), Some("bytes"));
}

#[test]
fn time_stamps_are_dates_of_the_calendar() {
    for text in ["2026-11-21T04:25:00.123456Z", "2024-02-29T23:59:59.999999Z"] {
        assert!(is_time(text), "{text}");
    }
    for text in [
        "2026-11-21T04:25:00.12345Z",
        "2026-11-21T04:25:00.1234567Z",
        "2026-11-21 04:25:00.123456Z",
        "2026-11-21T04:25:00.123456z",
        "2026-11-21T24:00:00.000000Z",
        "2026-11-21T04:60:00.000000Z",
        "2026-11-21T04:25:60.000000Z",
        "2026-13-01T00:00:00.000000Z",
        "2026-00-01T00:00:00.000000Z",
        "2026-04-31T00:00:00.000000Z",
        "2026-02-29T00:00:00.000000Z",
        "1900-02-29T00:00:00.000000Z",
        "2026-01-00T00:00:00.000000Z",
        "0000-01-01T00:00:00.000000Z",
        "２026-11-21T04:25:00.12345Z",
    ] {
        assert!(!is_time(text), "{text}");
    }
}

#[test]
fn kinds_are_dotted_lower_case_words() {
    for text in ["plan.created", "audit.key_used", "a.b.c2"] {
        assert!(is_kind(text), "{text}");
    }
    for text in ["", "plan", "plan.", ".created", "plan..created", "Plan.created", "plan.2nd"] {
        assert!(!is_kind(text), "{text}");
    }
    assert!(is_kind(&format!("a.{}", "b".repeat(62))));
    assert!(!is_kind(&format!("a.{}", "b".repeat(63))));
}

#[test]
fn an_execution_id_is_a_name_for_one_attempt() {
    let id = execution_id("/world/acme/p1", "render", 1).expect("a sound attempt");
    let named = br#"{"attempt":1,"plan":"/world/acme/p1","transition":"render"}"#;
    assert_eq!(id, format!("x{}", &blake3::hash(named).to_hex()[..32]));
    assert_ne!(execution_id("/world/acme/p1", "render", 2), Ok(id));
    for (plan, transition, attempt, member) in [
        ("/world/acme/p1/", "render", 1, "plan"),
        ("world://acme/p1", "render", 1, "plan"),
        ("/world/acme/p1", "Render", 1, "transition"),
        ("/world/acme/p1", "render", 0, "attempt"),
        ("/world/acme/p1", "render", 1001, "attempt"),
    ] {
        let error = execution_id(plan, transition, attempt).unwrap_err();
        assert_eq!(error.fact("member"), Some(&Detail::from(member)));
    }
}
