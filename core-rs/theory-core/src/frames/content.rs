//! What the content of each kind of frame may hold.

use super::{CLOSE_INVALID, Kind, misfit};
use crate::envelope::{self, Expect};
use crate::error::Result;
use crate::event::is_time;
use crate::facts;
use crate::json::Value;
use crate::limits::{DOCUMENT_DEPTH, LINE_BYTES};
use crate::path::{PlanAddress, WorldPath};
use crate::shape::Rule::{Is, Object};
use crate::shape::{Member, Misfit, Unknown, fit, may, must};

/// Longest text of a short fact in bytes: a stream's name, a phase, a socket.
const SHORT_BYTES: usize = 255;
/// Longest name of a secret in bytes.
const SECRET_BYTES: usize = 63;
/// Most secrets of one run.
const SECRETS: usize = 255;
/// Longest address of an upload in bytes.
const URL_BYTES: usize = 8 << 10;

const RUN_OPEN: &[Member] = &[
    must("role", Is(|value| is_one(value, &["client", "controller", "observer"]))),
    must("execution_id", Is(facts::name)),
    may("payload", Object(PAYLOAD)),
    may("resume_from", Is(facts::count)),
];
const PAYLOAD: &[Member] = &[
    must("schema", Is(|value| value.as_str() == Some("v1"))),
    must("ref", Is(|value| value.as_str().is_some_and(is_ref))),
    must("mode", Is(|value| is_one(value, &["mock", "real"]))),
    must("inputs", Is(is_inputs)),
    must("write_prefix", Is(|value| value.as_str().is_some_and(is_write_prefix))),
    must("upload", Object(UPLOAD)),
    must("env_fingerprint", Is(facts::fingerprint)),
    may("expected_oci", Is(facts::oci)),
    must("registry_snapshot", Is(facts::b3)),
    must("timeout_s", Is(facts::ordinal)),
    must("secrets", Is(are_secrets)),
    may("traceparent", Is(|value| value.as_str().is_some_and(is_traceparent))),
];
const UPLOAD: &[Member] = &[
    must("url", Is(|value| value.as_str().is_some_and(is_url))),
    must("headers", Is(are_headers)),
    may("socket", Is(is_short)),
    must("expires_at", Is(|value| value.as_str().is_some_and(is_time))),
    must("max_bytes", Is(facts::count)),
];
const CONTROL: &[Member] = &[
    must("op", Is(|value| is_one(value, &["cancel", "pause", "resume", "set_budget"]))),
    may("budget", Is(facts::vector)),
];
const ACK: &[Member] = &[
    must("execution_id", Is(facts::name)),
    must("state", Is(is_short)),
    may("image_digest", Is(facts::oci)),
];
const TOKEN: &[Member] = &[must("text", Is(is_text))];
const FRAME: &[Member] = &[
    must("stream", Is(is_short)),
    must("index", Is(facts::count)),
    must("mime", Is(facts::mime)),
    must("data", Is(|value| value.as_str().is_some_and(is_base64))),
];
const LOG: &[Member] = &[
    must("level", Is(|value| is_one(value, &["debug", "info", "warning", "error"]))),
    must("message", Is(|value| value.as_str().is_some_and(|text| text.len() <= LINE_BYTES))),
];
const EVENT: &[Member] =
    &[must("phase", Is(is_short)), may("progress", Is(is_share)), may("usage", Is(facts::vector))];
const GAP: &[Member] = &[must("from", Is(facts::ordinal)), must("to", Is(facts::ordinal))];

/// The content, if it fits the kind.
pub(super) fn fit_kind(kind: Kind, content: Value, unknown: Unknown) -> Result<Value> {
    let shape = match kind {
        Kind::RunOpen => RUN_OPEN,
        Kind::Control => CONTROL,
        Kind::Ack => ACK,
        Kind::Token => TOKEN,
        Kind::Frame => FRAME,
        Kind::Log => LOG,
        Kind::Event => EVENT,
        Kind::Gap => GAP,
        // An envelope is closed for everybody.
        Kind::RunResult => {
            return envelope::validate(content, &Expect::default())
                .map_err(|error| error.with("close", CLOSE_INVALID));
        }
    };
    let content = fit(content, shape, unknown).map_err(|wrong| misfit(kind, &wrong))?;
    match joint(kind, &content) {
        Some(place) => Err(misfit(kind, &Misfit::new(place, "invalid"))),
        None => Ok(content),
    }
}

/// The member that contradicts another one, if there is one.
fn joint(kind: Kind, content: &Value) -> Option<&'static str> {
    let says = |name, text| content.get(name).and_then(Value::as_str) == Some(text);
    let number = |name| content.get(name).and_then(Value::as_int);
    match kind {
        // Only a client starts a run.
        Kind::RunOpen if content.get("payload").is_some() && !says("role", "client") => {
            Some("payload")
        }
        Kind::Control if content.get("budget").is_some() != says("op", "set_budget") => {
            Some("budget")
        }
        Kind::Gap if number("from") > number("to") => Some("to"),
        _ => None,
    }
}

fn is_one(value: &Value, names: &[&str]) -> bool {
    value.as_str().is_some_and(|text| names.contains(&text))
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some()
}

fn is_short(value: &Value) -> bool {
    value.as_str().is_some_and(|text| facts::is_line(text, SHORT_BYTES))
}

/// A number from 0 to 1.
fn is_share(value: &Value) -> bool {
    match value {
        Value::Int(number) => (0..=1).contains(number),
        Value::Float(number) => (0.0..=1.0).contains(number),
        _ => false,
    }
}

/// `ns/name@N`
fn is_ref(text: &str) -> bool {
    let word = |text: &str, most: usize, dash: bool| {
        let later =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || (dash && byte == b'-');
        text.len() <= most
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
            && text.bytes().all(later)
    };
    let version = |text: &str| {
        (1..=4).contains(&text.len())
            && !text.starts_with('0')
            && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts = text.split_once('/').and_then(|(space, rest)| Some((space, rest.split_once('@')?)));
    parts.is_some_and(|(space, (name, number))| {
        word(space, 31, false) && word(name, 63, true) && version(number)
    })
}

/// `{"schema":"v1","params":{…}}`; the registry judges the parameters.
fn is_inputs(value: &Value) -> bool {
    let schema = value.get("schema").and_then(Value::as_str) == Some("v1");
    let params = value.get("params").is_some_and(|params| params.as_object().is_some());
    let members = value.as_object().map_or(0, <[_]>::len);
    schema && params && members == 2 && !is_deeper(value, DOCUMENT_DEPTH)
}

/// Whether more than `limit` containers lie inside each other.
fn is_deeper(value: &Value, limit: usize) -> bool {
    let mut open = vec![(value, 1)];
    while let Some((value, depth)) = open.pop() {
        let container = matches!(value, Value::Array(_) | Value::Object(_));
        if container && depth > limit {
            return true;
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => {
                open.extend(members.iter().map(|(_, item)| (item, depth + 1)));
            }
            _ => {}
        }
    }
    false
}

/// A canonical plan-relative prefix.
fn is_write_prefix(text: &str) -> bool {
    let any = PlanAddress::parse("/world/any/any");
    let path = any.and_then(|any| WorldPath::parse(text, Some(&any)));
    path.is_ok_and(|path| path.is_prefix() && path.relative() == text)
}

fn is_url(text: &str) -> bool {
    let schemed = text.starts_with("http://") || text.starts_with("https://");
    schemed && text.len() <= URL_BYTES && text.bytes().all(|byte| matches!(byte, b'!'..=b'~'))
}

/// Names and values of HTTP headers.
fn are_headers(value: &Value) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let visible = |byte: u8| matches!(byte, b' '..=b'~');
    value.as_object().is_some_and(|headers| {
        headers.iter().all(|(name, value)| {
            let value = value.as_str().is_some_and(|text| text.bytes().all(visible));
            value && !name.is_empty() && name.bytes().all(token)
        })
    })
}

/// A list of different names of secrets.
fn are_secrets(value: &Value) -> bool {
    let Some(items) = value.as_array() else {
        return false;
    };
    let named = |item: &Value| item.as_str().is_some_and(is_secret);
    let differ = |index: usize| !items[..index].contains(&items[index]);
    items.len() <= SECRETS && items.iter().all(named) && (0..items.len()).all(differ)
}

/// Whether the text names a secret: upper-case letters, digits and underscores.
fn is_secret(text: &str) -> bool {
    let later = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
    text.len() <= SECRET_BYTES
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase())
        && text.bytes().all(later)
}

/// The header of W3C Trace Context, version 00.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |text: &str, digits: usize| text.len() == digits && text.bytes().all(facts::is_hex);
    let nonzero = |text: &str| text.bytes().any(|byte| byte != b'0');
    match parts[..] {
        ["00", trace, span, flags] => {
            hex(trace, 32) && nonzero(trace) && hex(span, 16) && nonzero(span) && hex(flags, 2)
        }
        _ => false,
    }
}

/// Base64 with padding, of whole groups.
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.len() % 4 == 0 && text.len() - body.len() <= 2 && body.bytes().all(digit)
}
