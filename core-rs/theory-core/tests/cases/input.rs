//! The JSON text that a case describes: as text, in hexadecimal, or by repetition.

use theory_core::json::Value;

use crate::cases::{items, text};

/// Pieces of text, each with how often it stands there.
pub fn repeated(pieces: &Value) -> Vec<u8> {
    let piece = |piece: &Value| {
        let count = items(piece)[1].as_int().unwrap().try_into().unwrap();
        items(piece)[0].as_str().unwrap().repeat(count)
    };
    items(pieces).iter().map(piece).collect::<String>().into_bytes()
}

/// The text itself.
pub fn input(case: &Value) -> Vec<u8> {
    match (case.get("repeat"), case.get("hex").and_then(Value::as_str)) {
        (Some(pieces), _) => repeated(pieces),
        (None, Some(hex)) => unhex(hex),
        (None, None) => text(case, "text").as_bytes().to_vec(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
