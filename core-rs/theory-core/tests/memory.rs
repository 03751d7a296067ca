//! What reading holds beside the text, by an allocator that counts for each thread.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use theory_core::Result;
use theory_core::json::{Container, Scalar, Sink, Text, canonicalize_json, read};

const BODY_BYTES: usize = 1 << 20;
/// What a few small lists may hold, however short the text is.
const CONSTANT_BYTES: usize = 4 << 10;

struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn grown(bytes: usize) {
    let held = HELD.get().wrapping_add(bytes);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        unsafe { System.dealloc(memory, layout) }
    }

    /// Counts old and new memory at once, as if every move were a copy.
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        grown(bytes);
        let moved = unsafe { System.realloc(memory, layout, bytes) };
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        moved
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The answer, and the most bytes that were held on the way to it.
fn measured<T>(body: impl FnOnce() -> T) -> (T, usize) {
    HELD.set(0);
    PEAK.set(0);
    let answer = body();
    (answer, PEAK.get())
}

/// An array of one element over and over.
fn dense(element: &str) -> String {
    let count = BODY_BYTES / (element.len() + 1);
    format!("[{}]", vec![element; count].join(","))
}

/// An object of so many short names, sorted or not.
fn members(count: usize, sorted: bool) -> String {
    const LETTERS: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    let name = |number: usize| {
        let mut digits = vec![char::from(LETTERS[number % 64])];
        let mut rest = number / 64;
        while rest > 0 {
            digits.insert(0, char::from(LETTERS[rest % 64]));
            rest /= 64;
        }
        digits.into_iter().collect::<String>()
    };
    let mut names: Vec<String> = (0..count).map(name).collect();
    names.sort();
    if !sorted {
        let half = names.split_off(count / 2);
        names = half.into_iter().rev().chain(names).collect();
    }
    let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":1")).collect();
    format!("{{{}}}", members.join(","))
}

/// Objects in one another, each with its members in the wrong order, around a string.
fn matryoshka(depth: usize, bytes: usize) -> String {
    let text = format!("\"{}\"", "x".repeat(bytes));
    "{\"b\":1,\"a\":".repeat(depth) + &text + &"}".repeat(depth)
}

fn string(piece: &str) -> String {
    format!("\"{}\"", piece.repeat(BODY_BYTES / piece.len()))
}

const DOCUMENT: &str = r#"{
  "v": "theory.event.v1", "plan": "/world/acme/p1", "seq": 7, "kind": "execution.settled",
  "data": {
    "usage": {"usd_micro": 1234, "tokens_in": 900, "ratio": 0.25},
    "note": "caf\u00e9 says \"hi\"\n", "ok": true, "none": null, "list": ["a", "b", []]
  }
}"#;

fn documents() -> Vec<(&'static str, String)> {
    vec![
        ("small integers", dense("7")),
        ("integers", dense("-123456")),
        ("doubles", dense("0.1")),
        ("long doubles", dense("-12.345678901234567")),
        ("arrays in an array", dense("[]")),
        ("nested arrays", dense(&("[".repeat(255) + &"]".repeat(255)))),
        ("empty objects", dense("{}")),
        ("small objects", dense(r#"{"b":1,"a":1}"#)),
        ("sorted members", members(BODY_BYTES / 9, true)),
        ("members", members(BODY_BYTES / 9, false)),
        ("members in an object", format!("{{\"a\":{}}}", members(BODY_BYTES / 9, false))),
        ("objects as long as are moved at once", dense(&members(1_100, false))),
        ("objects that are moved at the end", dense(&members(1_300, false))),
        ("objects of short names", dense(&members(4_000, false))),
        ("nested objects", dense(&matryoshka(250, 1))),
        ("nested objects around some text", dense(&matryoshka(250, 8_200))),
        ("nested objects around a long text", matryoshka(250, BODY_BYTES)),
        ("a long string", string("x")),
        ("a long string beyond ASCII", string("é")),
        ("a string of escapes", string("\\n")),
        ("a string of long escapes", string("\\u00e9")),
        ("a string of escaped pairs", string("\\ud83d\\ude00")),
        ("a long string with one escape", string("x").replacen('x', "\\n", 1)),
        ("strings with escapes", dense(r#""a\nb""#)),
        ("blanks", format!("[{}1]", " ".repeat(BODY_BYTES))),
        ("ordinary documents", dense(DOCUMENT)),
    ]
}

#[test]
fn the_text_door_holds_at_most_four_times_the_text() {
    for (label, text) in documents() {
        let (answer, peak) = measured(|| canonicalize_json(text.as_bytes()));
        assert!(answer.unwrap().len() <= text.len(), "{label}");
        assert!(peak <= 4 * text.len(), "{label}: {peak} of {}", text.len());
    }
}

#[test]
fn where_numbers_get_longer_the_answer_counts_too() {
    for (label, text) in [("1e9", dense("1e9")), ("1e20", dense("1e20")), ("-1e20", dense("-1e20"))]
    {
        let (answer, peak) = measured(|| canonicalize_json(text.as_bytes()));
        let allowed = 4 * (text.len() + answer.unwrap().len());
        assert!(peak <= allowed, "{label}: {peak} of {allowed}");
    }
}

#[test]
fn a_refusal_holds_no_more_than_an_answer() {
    let again = |text: String, more: &str| text.replacen('}', more, 1);
    let refused = [
        ("ERR_JSON_SYNTAX", dense("7").replace(']', "")),
        ("ERR_JSON_SYNTAX", again(members(BODY_BYTES / 9, false), "")),
        ("ERR_JSON_DUPLICATE", again(members(BODY_BYTES / 9, false), ",\"-\":1}")),
        ("ERR_JSON_DUPLICATE", again(members(BODY_BYTES / 9, true), ",\"-\":1,")),
        ("ERR_JSON_SYNTAX", string("\\n").replace("n\"", "n")),
        ("ERR_JSON_UNICODE", string("\\n").replace("n\"", "n\u{ffff}\"")),
    ];
    for (code, text) in refused {
        let (answer, peak) = measured(|| canonicalize_json(text.as_bytes()));
        assert_eq!(answer.unwrap_err().code.as_str(), code);
        assert!(peak <= 4 * text.len(), "{code}: {peak} of {}", text.len());
    }
}

#[test]
fn a_short_text_costs_a_constant() {
    for text in ["0", "{}", "[[]]", "\"\\n\"", "{\"b\":{\"d\":1,\"c\":1},\"a\":1}", DOCUMENT] {
        let (answer, peak) = measured(|| canonicalize_json(text.as_bytes()));
        let allowed = 4 * (text.len() + answer.unwrap().len()) + CONSTANT_BYTES;
        assert!(peak <= allowed, "{text}: {peak} of {allowed}");
    }
}

/// Forgets what it hears.
struct Deaf;

impl Sink for Deaf {
    fn open(&mut self, _: Container) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    fn name(&mut self, _: Text<'_>) -> Result<()> {
        Ok(())
    }

    fn scalar(&mut self, _: Scalar<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn beside_its_sink_a_reader_holds_one_string() {
    for (label, text) in documents() {
        let (answer, peak) = measured(|| read(text.as_bytes(), &mut Deaf));
        answer.unwrap();
        assert!(peak <= text.len() + CONSTANT_BYTES, "{label}: {peak} of {}", text.len());
        if !text.contains('\\') {
            assert!(peak <= CONSTANT_BYTES, "{label}: {peak}");
        }
    }
}
