//! The verifier: sound exports pass, and every damage names the line it was done to.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use theory_core::chain::{Chain, Link};
use theory_core::digest::written;
use theory_core::json::{Value, parse};
use theory_core::verify::{Expectations, Fault, Reason, Report, Start, Verifier};

type Head = (u64, [u8; 32]);

fn event(plan: &str, seq: u64) -> Value {
    let text = format!(
        concat!(
            r#"{{"v":"theory.event.v1","plan":"{}","seq":{},"at":"2026-11-21T04:25:00.{:06}Z","#,
            r#""kind":"plan.paused","data":{{"by":"local","reason":"né {}\"\\\n\u20ac"}}}}"#
        ),
        plan, seq, seq, seq
    );
    parse(text.as_bytes()).expect("a JSON text")
}

/// Lines of an export of events `from..=to`, and the head of each.
fn export(from: u64, to: u64) -> (Vec<Vec<u8>>, Vec<Head>) {
    let last = (from > 1).then(|| export(1, from - 1).1[usize::try_from(from - 2).expect("small")]);
    let last = last.map(|(seq, hash)| Link { seq: Some(seq), hash, at: None });
    let events: Vec<Value> = (from..=to).map(|seq| event("/world/acme/p1", seq)).collect();
    let sealed = Chain::new(last, None).append(&events).expect("sound events");
    let heads = (from..=to).zip(&sealed).map(|(seq, sealed)| (seq, sealed.hash)).collect();
    let line = |bytes: &[u8], hash: &[u8; 32]| {
        let tail = format!(",\"hash\":\"{}\"}}\n", written(hash));
        [b"{\"event\":".as_slice(), bytes, tail.as_bytes()].concat()
    };
    (sealed.iter().map(|sealed| line(&sealed.bytes, &sealed.hash)).collect(), heads)
}

/// The line, from 1, that the byte at `place` stands in.
fn line_of(bytes: &[u8], place: usize) -> u64 {
    let lines = bytes[..place].split(|&byte| byte == b'\n').count();
    u64::try_from(lines).expect("few lines")
}

fn verify(bytes: &[u8], expect: Expectations) -> Report {
    let mut verifier = Verifier::new(expect, Some(1)).expect("one thread");
    verifier.feed(bytes);
    verifier.finish()
}

fn fault(bytes: &[u8], expect: Expectations) -> Fault {
    verify(bytes, expect).fault.expect("a fault")
}

fn broken(seq: u64, line: u64, reason: Reason) -> Fault {
    Fault { seq: Some(seq), line, reason }
}

#[test]
fn a_sound_export_is_consistent_and_anchored_only_by_a_head_from_outside() {
    let (lines, heads) = export(1, 5);
    let bytes = lines.concat();
    let report = verify(&bytes, Expectations::default());
    assert_eq!((report.count, report.head, report.fault), (5, Some(heads[4]), None));
    assert!(!report.anchored);
    assert_eq!(report.verdict(), "5 events, internally consistent, not anchored");

    let report = verify(&bytes, Expectations { head: Some(heads[4]), ..Default::default() });
    assert!(report.anchored);
    assert_eq!(report.verdict(), "5 events, internally consistent, anchored at seq 5");
}

#[test]
fn a_missing_tail_and_a_forged_tail_contradict_the_head() {
    let (lines, heads) = export(1, 5);
    let expect = |head| Expectations { head: Some(head), ..Default::default() };
    assert_eq!(fault(&lines[..4].concat(), expect(heads[4])), broken(5, 5, Reason::Head));
    assert_eq!(fault(&lines.concat(), expect(heads[3])), broken(5, 5, Reason::Head));
    assert_eq!(fault(&lines.concat(), expect((3, [0; 32]))), broken(3, 3, Reason::Head));
    let report = verify(&lines.concat(), expect((5, [0; 32])));
    assert_eq!((report.fault, report.anchored), (Some(broken(5, 5, Reason::Head)), false));
}

#[test]
fn zero_events_are_a_failure_unless_asked_for() {
    assert_eq!(fault(b"", Expectations::default()), broken(1, 1, Reason::Gap));
    let asked = Expectations { allow_empty: true, ..Default::default() };
    let report = verify(b"", asked);
    assert_eq!((report.count, report.head, report.anchored, report.fault), (0, None, false, None));
    let head = Expectations { head: Some((1, [0; 32])), ..asked };
    assert_eq!(fault(b"", head), broken(1, 1, Reason::Head));
}

#[test]
fn a_part_needs_the_hash_before_it() {
    let (lines, heads) = export(4, 6);
    let before = export(1, 3).1[2];
    let bytes = lines.concat();
    assert_eq!(fault(&bytes, Expectations::default()), broken(1, 1, Reason::Gap));
    let after =
        |seq, hash| Expectations { start: Start::After { seq, hash }, ..Default::default() };
    for seq in [Some(3), None] {
        let report = verify(&bytes, after(seq, before.1));
        assert_eq!((report.count, report.head, report.fault), (3, Some(heads[2]), None));
    }
    assert_eq!(fault(&bytes, after(Some(2), before.1)), broken(3, 1, Reason::Gap));
    assert_eq!(fault(&bytes, after(Some(3), [0; 32])), broken(4, 1, Reason::Hash));
    assert_eq!(fault(&bytes, after(None, [0; 32])), broken(4, 1, Reason::Hash));
    let torn = fault(b"{\n", after(None, before.1));
    assert_eq!(torn, Fault { seq: None, line: 1, reason: Reason::Syntax });
}

#[test]
fn each_damage_has_its_reason() {
    let (lines, _) = export(1, 4);
    let second = String::from_utf8(lines[1].clone()).expect("text");
    let edited = |from: &str, to: &str| {
        assert!(second.contains(from));
        [&lines[0], second.replacen(from, to, 1).as_bytes(), &lines[2], &lines[3]].concat()
    };
    let cases = [
        (edited("}\n", "\n"), Reason::Syntax),
        (edited("\n", "\r\n"), Reason::Bytes),
        (edited("\"seq\":2", "\"seq\": 2"), Reason::Bytes),
        (edited("theory.event.v1", "theory.event.v2"), Reason::Schema),
        (edited("\"b3:", "\"b4:"), Reason::Schema),
        (edited("plan.paused", "plan paused"), Reason::Schema),
        (edited("acme/p1", "acme/p2"), Reason::Plan),
        (edited("\"seq\":2", "\"seq\":3"), Reason::Gap),
        (edited("00.000002Z", "00.000000Z"), Reason::Order),
        (edited("\"by\":\"local\"", "\"by\":\"mocal\""), Reason::Hash),
    ];
    for (bytes, reason) in cases {
        assert_eq!(fault(&bytes, Expectations::default()), broken(2, 2, reason));
    }
    // A blank line more stands where the third should.
    let blank = fault(&edited("\n", "\n\n"), Expectations::default());
    assert_eq!(blank, broken(3, 3, Reason::Syntax));
}

#[test]
fn rows_that_are_deleted_swapped_or_doubled_are_found() {
    let (lines, _) = export(1, 4);
    let take = |order: &[usize]| order.iter().flat_map(|&index| lines[index].clone()).collect();
    let cases: [(Vec<u8>, u64); 4] = [
        (take(&[0, 2, 3]), 2),
        (take(&[0, 2, 1, 3]), 2),
        (take(&[0, 1, 1, 2, 3]), 3),
        (take(&[1, 2, 3]), 1),
    ];
    for (bytes, seq) in cases {
        assert_eq!(fault(&bytes, Expectations::default()), broken(seq, seq, Reason::Gap));
    }
}

#[test]
fn an_edit_with_a_recomputed_hash_breaks_at_the_next_line() {
    let (lines, _) = export(1, 3);
    let before = export(1, 1).1[0].1;
    let last = Link { seq: Some(1), hash: before, at: None };
    let text = String::from_utf8(lines[1].clone()).expect("text").replace("local", "mocal");
    let edited = parse(&text.as_bytes()[..text.len() - 1]).expect("a line");
    let edited = edited.get("event").expect("an event").clone();
    let sealed = Chain::new(Some(last), None).append(&[edited]).expect("a sound event");
    let stated = format!(",\"hash\":\"{}\"}}\n", written(&sealed[0].hash));
    let forged = [b"{\"event\":".as_slice(), &sealed[0].bytes, stated.as_bytes()].concat();
    let bytes = [lines[0].clone(), forged, lines[2].clone()].concat();
    assert_eq!(fault(&bytes, Expectations::default()), broken(3, 3, Reason::Hash));
}

#[test]
fn many_lines_in_any_pieces_on_any_threads_give_one_report() {
    let (lines, heads) = export(1, 6000);
    let bytes = lines.concat();
    let mut damaged = bytes.clone();
    let place = lines[..4999].iter().map(Vec::len).sum::<usize>() + 40;
    damaged[place] ^= 1;
    for threads in [None, Some(1), Some(3)] {
        for piece in [997, 1 << 20, bytes.len()] {
            let expect = Expectations { head: heads.last().copied(), ..Default::default() };
            let mut sound = Verifier::new(expect, threads).expect("threads");
            let mut broken = Verifier::new(expect, threads).expect("threads");
            for (sound_piece, broken_piece) in bytes.chunks(piece).zip(damaged.chunks(piece)) {
                assert!(sound.feed(sound_piece));
                broken.feed(broken_piece);
            }
            assert!(sound.finish().anchored);
            let fault = broken.finish().fault.expect("a damaged line");
            assert_eq!((fault.seq, fault.line), (Some(5000), 5000));
        }
    }
}

#[test]
fn lines_may_come_one_by_one_but_hold_no_line_feed() {
    let (lines, _) = export(1, 3);
    let mut verifier = Verifier::new(Expectations::default(), None).expect("threads");
    verifier.feed_line(&lines[0]);
    verifier.feed_line(lines[1].strip_suffix(b"\n").expect("a line feed"));
    assert!(verifier.feed_line(&lines[2]));
    assert_eq!(verifier.finish().fault, None);

    let mut verifier = Verifier::new(Expectations::default(), None).expect("threads");
    assert!(verifier.feed_line(&lines[0]));
    assert!(!verifier.feed_line(&lines[1..].concat()));
    assert_eq!(verifier.finish().fault, Some(broken(2, 2, Reason::Syntax)));
}

#[test]
fn a_line_without_an_end_is_refused_in_bounded_memory() {
    let piece = vec![b'['; 1 << 20];
    let mut verifier = Verifier::new(Expectations::default(), Some(1)).expect("a thread");
    let taken = (0..64).take_while(|_| verifier.feed(&piece)).count();
    assert_eq!(taken, 8);
    assert_eq!(verifier.finish().fault, Some(broken(1, 1, Reason::Syntax)));
}

#[test]
fn a_reader_that_fails_is_no_verdict() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("gone"))
        }
    }
    let mut verifier = Verifier::new(Expectations::default(), None).expect("threads");
    let error = verifier.feed_all(&mut Failing).unwrap_err();
    assert_eq!(error.code, theory_core::Code::Storage);
    assert!(Verifier::new(Expectations::default(), Some(0)).is_err());
}

proptest! {
    /// Law: whatever byte changes to whatever else, the first line it stands in is named.
    #[test]
    fn a_changed_byte_names_its_line(place: prop::sample::Index, mask in 1..=255_u8, anchor: bool) {
        let (lines, heads) = export(1, 7);
        let mut bytes = lines.concat();
        let place = place.index(bytes.len());
        let line = line_of(&bytes, place);
        bytes[place] ^= mask;
        let head = anchor.then(|| heads[6]);
        let found = fault(&bytes, Expectations { head, ..Default::default() });
        prop_assert_eq!((found.seq, found.line), (Some(line), line));
    }

    /// Law: no bytes make the verifier panic, and none without a chain are sound.
    #[test]
    fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
        prop_assert!(verify(&bytes, Expectations::default()).fault.is_some());
    }
}

#[test]
fn every_single_byte_of_an_export_is_covered() {
    let (lines, _) = export(1, 3);
    let whole = lines.concat();
    for place in 0..whole.len() {
        let line = line_of(&whole, place);
        for other in [whole[place] ^ 1, whole[place] ^ 0x20, b'\n', b' ', b'"', b'0', b'\\', 0xff] {
            let mut bytes = whole.clone();
            bytes[place] = other;
            let found = verify(&bytes, Expectations::default()).fault.map(|fault| fault.line);
            assert_eq!(found, (other != whole[place]).then_some(line), "{place} {other}");
        }
    }
}
