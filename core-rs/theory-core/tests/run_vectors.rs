//! Every shared vector about envelopes, frames and conversations.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cases;

use cases::{cases, check_refusal, is_valid, items, member, text};
use theory_core::Code;
use theory_core::envelope::{self, Expect};
use theory_core::frames::{Frame, Kind, Sender};
use theory_core::json::{Value, canonical};
use theory_core::limits::FRAME_BYTES;
use theory_core::protocol::Connection;

const FACTS: [&str; 6] = ["place", "problem", "index", "other", "reason", "close"];

fn optional<'a>(case: Option<&'a Value>, name: &str) -> Option<&'a str> {
    case.and_then(|case| case.get(name)).and_then(Value::as_str)
}

#[test]
fn envelopes_are_accepted_or_refused() {
    for (label, case) in cases("envelope/validate.json") {
        let asked = case.get("expect");
        let id = optional(asked, "execution_id");
        let image = optional(asked, "expected_digest");
        let expect = Expect {
            execution_id: id,
            write_prefix: optional(asked, "write_prefix"),
            image_digest: (id.is_some() || image.is_some()).then_some(image),
        };
        match (is_valid(&case), envelope::validate(member(&case, "envelope").clone(), &expect)) {
            (true, Ok(answer)) => {
                assert_eq!(canonical(&answer), text(&case, "canonical").as_bytes(), "{label}");
            }
            (false, Err(error)) => check_refusal(&label, &case, &error, &FACTS),
            (_, outcome) => panic!("{label}: {outcome:?}"),
        }
    }
}

#[test]
fn envelopes_are_built() {
    for (label, case) in cases("envelope/build.json") {
        let (id, fingerprint) = (text(&case, "execution_id"), text(&case, "env_fingerprint"));
        let fact = |name| optional(Some(&case), name);
        let built = if text(&case, "build") == "success" {
            let outputs = items(member(&case, "outputs")).to_vec();
            let prefix = text(&case, "write_prefix");
            envelope::success(id, prefix, outputs, fingerprint, fact("image_digest"))
        } else {
            let code = text(&case, "code_given");
            envelope::failure(id, code, fact("reason"), fingerprint, fact("stderr_tail"))
        };
        match (is_valid(&case), built) {
            (true, Ok(bytes)) => assert_eq!(bytes, text(&case, "canonical").as_bytes(), "{label}"),
            (false, Err(error)) => check_refusal(&label, &case, &error, &[]),
            (_, outcome) => panic!("{label}: {outcome:?}"),
        }
    }
}

fn sender(name: &str) -> Sender {
    match name {
        "client" => Sender::Client,
        "server" => Sender::Server,
        other => panic!("no side: {other}"),
    }
}

#[test]
fn frames_are_accepted_or_refused() {
    let mut golden = Vec::new();
    for (label, case) in cases("frames/wire.json") {
        let (wire, from) = (text(&case, "text").as_bytes(), sender(text(&case, "direction")));
        match (is_valid(&case), Frame::read(wire, from)) {
            (true, Ok(frame)) => {
                let expected = canonical(member(&case, "frame"));
                assert_eq!(frame.clone().encode().unwrap(), expected, "{label}");
                if expected == wire {
                    golden.push(frame.kind);
                    let rebuilt = Frame::new(frame.kind, frame.seq, frame.content.clone());
                    assert_eq!(rebuilt.as_ref(), Ok(&frame), "{label}");
                }
            }
            (false, Err(error)) => check_refusal(&label, &case, &error, &FACTS),
            (_, outcome) => panic!("{label}: {outcome:?}"),
        }
    }
    assert!(Kind::ALL.iter().all(|kind| golden.contains(kind)), "a kind without a golden frame");
}

#[test]
fn a_frame_has_at_most_8_mib() {
    let frame = |bytes: usize| {
        let content = Value::Object(vec![("text".to_owned(), Value::Str("x".repeat(bytes)))]);
        Frame::new(Kind::Token, Some(1), content).and_then(Frame::encode)
    };
    let around = frame(0).unwrap().len();
    let largest = frame(FRAME_BYTES - around).unwrap();
    assert_eq!(largest.len(), FRAME_BYTES);
    Frame::read(&largest, Sender::Server).unwrap();
    let error = frame(FRAME_BYTES - around + 1).unwrap_err();
    assert_eq!(error.code, Code::TooLarge);
    let error = Frame::read(&[largest, b" ".to_vec()].concat(), Sender::Server).unwrap_err();
    assert_eq!(error.fact("close"), Some(&1009_u16.into()));
}

/// The frame as an end that says anything would send it.
fn wire(frame: &Value) -> Vec<u8> {
    canonical(frame)
}

fn said(connection: &mut Connection, from: Sender, frame: &Value) -> theory_core::Result<Vec<u8>> {
    let frame = Frame::from_value(frame.clone(), from).unwrap();
    connection.send(frame.kind, frame.seq, frame.content)
}

#[test]
fn conversations_are_legal_for_both_ends_or_for_neither() {
    for (label, case) in cases("frames/conversation.json") {
        let mut client = Connection::new(Sender::Client);
        let mut server = Connection::new(Sender::Server);
        let steps = items(member(&case, "steps"));
        for (index, step) in steps.iter().enumerate() {
            let (from, frame) = (sender(items(step)[0].as_str().unwrap()), &items(step)[1]);
            let (speaker, listener) = match from {
                Sender::Client => (&mut client, &mut server),
                Sender::Server => (&mut server, &mut client),
            };
            let (before, next) = (listener.phase(), listener.next_seq());
            let sent = said(speaker, from, frame);
            let received = listener.receive(&wire(frame));
            if is_valid(&case) || index + 1 < steps.len() {
                assert_eq!(sent, Ok(wire(frame)), "{label}, step {index}");
                received.unwrap();
            } else {
                check_refusal(&label, &case, &sent.unwrap_err(), &FACTS);
                check_refusal(&label, &case, &received.unwrap_err(), &FACTS);
                assert_eq!((listener.phase(), listener.next_seq()), (before, next), "{label}");
            }
        }
        assert_eq!((client.phase(), client.next_seq()), (server.phase(), server.next_seq()));
        if is_valid(&case) {
            assert_eq!(client.phase().as_str(), text(&case, "phase"), "{label}");
        }
    }
}
