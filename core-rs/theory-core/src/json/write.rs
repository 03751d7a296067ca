//! Canonical bytes of a value (RFC 8785): no blanks, sorted names, shortest numbers.

use crate::json::Value;
use crate::json::order::compare_names;
use crate::number::{push_float, push_int};

/// Canonical UTF-8 bytes of a value that holds the rules of [`Value`].
#[must_use]
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut open: Vec<Step<'_>> = Vec::new();
    push_value(&mut out, &mut open, value);
    while let Some(step) = open.last_mut() {
        match step {
            Step::Array { rest, first } => match rest.next() {
                Some(item) => {
                    separate(&mut out, first);
                    push_value(&mut out, &mut open, item);
                }
                None => close(&mut out, &mut open, b']'),
            },
            Step::Object { rest, first } => match rest.next() {
                Some((name, item)) => {
                    separate(&mut out, first);
                    push_text(&mut out, name);
                    out.push(b':');
                    push_value(&mut out, &mut open, item);
                }
                None => close(&mut out, &mut open, b'}'),
            },
        }
    }
    out
}

/// A container that is being written.
enum Step<'a> {
    Array { rest: std::slice::Iter<'a, Value>, first: bool },
    Object { rest: std::vec::IntoIter<&'a (String, Value)>, first: bool },
}

fn separate(out: &mut Vec<u8>, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(b',');
    }
}

fn close(out: &mut Vec<u8>, open: &mut Vec<Step<'_>>, mark: u8) {
    out.push(mark);
    open.pop();
}

fn push_value<'a>(out: &mut Vec<u8>, open: &mut Vec<Step<'a>>, value: &'a Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => push_int(out, *number),
        Value::Float(number) => push_float(out, *number),
        Value::Str(text) => push_text(out, text),
        Value::Array(items) => {
            out.push(b'[');
            open.push(Step::Array { rest: items.iter(), first: true });
        }
        Value::Object(members) => {
            out.push(b'{');
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by(|(a, _), (b, _)| compare_names(a, b));
            open.push(Step::Object { rest: sorted.into_iter(), first: true });
        }
    }
}

/// A text in quotes, with the escapes that canonical JSON asks for and no others.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}
