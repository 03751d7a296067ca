//! How fast JSON text is read: `cargo bench -p theory-core`. Figures are the best of many rounds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use theory_core::json::{canonicalize_json, parse};

const BODY_BYTES: usize = 1 << 20;
const LEAST_TIME: Duration = Duration::from_millis(500);

const DOCUMENT: &str = r#"{"v":"theory.event.v1","plan":"/world/acme/p1","seq":7,"kind":"plan.note",
"data":{"usage":{"usd_micro":1234,"tokens_in":900,"ratio":0.25},"note":"caf\u00e9 says \"hi\"\n",
"ok":true,"none":null,"list":["a","b",[]]}}"#;

fn dense(element: &str) -> String {
    format!("[{}]", vec![element; BODY_BYTES / (element.len() + 1)].join(","))
}

/// An object of many members in no order.
fn members() -> String {
    let name = |number: u32| format!("\"{:08x}\":1", number.wrapping_mul(0x9e37_79b9));
    format!("{{{}}}", (0..80_000).map(name).collect::<Vec<_>>().join(","))
}

/// Megabytes a second, the best round.
fn speed<T>(text: &str, read: impl Fn(&[u8]) -> T) -> u128 {
    let began = Instant::now();
    let mut best = Duration::MAX;
    while began.elapsed() < LEAST_TIME {
        let round = Instant::now();
        black_box(read(black_box(text.as_bytes())));
        best = best.min(round.elapsed());
    }
    text.len() as u128 * 1_000 / best.as_nanos().max(1)
}

fn main() {
    let texts = [
        ("one document", DOCUMENT.to_owned()),
        ("documents", dense(DOCUMENT)),
        ("integers", dense("7")),
        ("doubles", dense("-12.345678901234567")),
        ("nested arrays", dense(&("[".repeat(250) + &"]".repeat(250)))),
        ("members", members()),
        ("a string", format!("\"{}\"", "x".repeat(BODY_BYTES))),
        ("escapes", format!("\"{}\"", "\\u00e9\\n".repeat(BODY_BYTES / 8))),
    ];
    println!("{:14} {:>18} {:>8}   MB/s", "", "canonicalize_json", "parse");
    for (label, text) in texts {
        println!("{label:14} {:>18} {:>8}", speed(&text, canonicalize_json), speed(&text, parse));
    }
}
