//! Envelopes: the one answer of a run, built here and judged here (spec: envelope).

use crate::catalogue::find;
use crate::error::{Code, Error, Result};
use crate::facts;
use crate::json::{Value, canonical};
use crate::limits::{OUTPUT_BYTES, OUTPUTS_PER_EXECUTION, STDERR_TAIL_BYTES};
use crate::outputs::check_outputs;
use crate::path::{PlanAddress, WorldPath};
use crate::shape::Rule::{Is, Object, Objects};
use crate::shape::{Member, Misfit, Unknown, fit, may, must};
use crate::unicode::is_noncharacter;

/// Name of the index below the write prefix.
pub const INDEX: &str = "outputs.json";
/// Folder of the outputs below the write prefix.
pub const OUTPUTS: &str = "outputs/";
/// Longest message in bytes.
pub const MESSAGE_BYTES: usize = 1024;

/// What the one who asked knows of the answer; what is none is not compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expect<'a> {
    /// The execution that was asked for.
    pub execution_id: Option<&'a str>,
    /// Its expanded write prefix, plan-relative.
    pub write_prefix: Option<&'a str>,
    /// The image digest that the request carried; inner none: it carried none.
    pub image_digest: Option<Option<&'a str>>,
}

const SUCCESS: &[Member] = &[
    must("status", Is(|value| value.as_str() == Some("success"))),
    must("execution_id", Is(facts::name)),
    must("outputs", Objects(OUTPUT)),
    must("index_path", Is(|value| value.as_str().is_some())),
    must("meta", Object(SUCCESS_META)),
];
const OUTPUT: &[Member] = &[
    must("path", Is(|value| value.as_str().is_some())),
    must("cid", Is(facts::b3)),
    must("size_bytes", Is(is_size)),
    must("mime", Is(facts::mime)),
];
const SUCCESS_META: &[Member] =
    &[must("env_fingerprint", Is(facts::fingerprint)), may("image_digest", Is(facts::oci))];
const FAILURE: &[Member] = &[
    must("status", Is(|value| value.as_str() == Some("error"))),
    must("execution_id", Is(facts::name)),
    must("error", Object(FAULT)),
    must("meta", Object(FAILURE_META)),
];
const FAULT: &[Member] = &[
    must("code", Is(|value| value.as_str().is_some_and(|code| find(code).is_some()))),
    must("message", Is(|value| value.as_str().is_some_and(is_message))),
];
const FAILURE_META: &[Member] =
    &[must("env_fingerprint", Is(facts::fingerprint)), may("stderr_tail", Is(is_tail))];

fn is_size(value: &Value) -> bool {
    facts::count(value) && value.as_int().is_some_and(|size| size.unsigned_abs() <= OUTPUT_BYTES)
}

fn is_message(text: &str) -> bool {
    facts::is_line(text, MESSAGE_BYTES)
}

fn is_tail(value: &Value) -> bool {
    value.as_str().is_some_and(|tail| tail.len() <= STDERR_TAIL_BYTES)
}

/// The envelope, if it is one and answers what was asked.
///
/// # Errors
/// `ERR_ADAPTER_INVOCATION` for a malformed envelope (`detail.place`, `detail.problem`), that of
/// another execution, a wrong index path, or outputs that are not canonical or not sorted;
/// `ERR_OUTPUT_DUPLICATE`, `ERR_OUTPUT_PREFIX`; `ERR_REGISTRY_MISMATCH` for another image digest.
pub fn validate(envelope: Value, expect: &Expect<'_>) -> Result<Value> {
    let success = envelope.get("status").and_then(Value::as_str) != Some("error");
    let shape = if success { SUCCESS } else { FAILURE };
    let envelope = fit(envelope, shape, Unknown::Refuse).map_err(|misfit| malformed(&misfit))?;
    let id = envelope.get("execution_id").and_then(Value::as_str);
    if expect.execution_id.is_some() && expect.execution_id != id {
        return Err(invocation("envelope of another execution"));
    }
    if success {
        check_paths(&envelope, expect)?;
        check_image(&envelope, expect)?;
    }
    Ok(envelope)
}

/// Law: the index lies right below the write prefix, and every output below its `outputs/`.
fn check_paths(envelope: &Value, expect: &Expect<'_>) -> Result<()> {
    let index = envelope.get("index_path").and_then(Value::as_str).unwrap_or_default();
    let stated = index.strip_suffix(INDEX).filter(|prefix| is_prefix(prefix));
    let prefix = match (stated, expect.write_prefix) {
        (Some(stated), Some(expected)) if stated == expected => stated,
        (Some(stated), None) => stated,
        _ => return Err(invocation("invalid index_path root")),
    };
    let outputs = envelope.get("outputs").and_then(Value::as_array).unwrap_or_default();
    if outputs.len() > OUTPUTS_PER_EXECUTION {
        let error = invocation("more outputs than an execution may have");
        return Err(error.with("limit", OUTPUTS_PER_EXECUTION));
    }
    let text = |output: &'_ Value| output.get("path").and_then(Value::as_str).map(str::to_owned);
    let texts: Vec<String> = outputs.iter().filter_map(text).collect();
    let mut paths = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let path = parse(text).map_err(|error| {
            let refused = invocation("invalid path of an output").with("index", index);
            refused.with("reason", error.code.as_str())
        });
        paths.push(path?);
    }
    check_outputs(&paths.iter().collect::<Vec<_>>())?;
    let folder = format!("{prefix}{OUTPUTS}");
    for (index, (text, path)) in texts.iter().zip(&paths).enumerate() {
        if path.relative() != *text || path.is_prefix() {
            return Err(invocation("path of an output is not canonical").with("index", index));
        }
        if !text.starts_with(&folder) {
            let error = Error::new(Code::OutputPrefix, Code::OutputPrefix.entry().summary);
            return Err(error.with("index", index));
        }
    }
    match texts.windows(2).position(|pair| pair[0] > pair[1]) {
        Some(index) => Err(invocation("outputs are not sorted by path").with("index", index + 1)),
        None => Ok(()),
    }
}

/// Law: the image digest is there exactly when the request carried one, and is that one.
fn check_image(envelope: &Value, expect: &Expect<'_>) -> Result<()> {
    let Some(expected) = expect.image_digest else {
        return Ok(());
    };
    let meta = envelope.get("meta");
    let stated = meta.and_then(|meta| meta.get("image_digest")).and_then(Value::as_str);
    match (expected, stated) {
        (None, Some(_)) => Err(invocation("image_digest was not asked for")),
        (expected, stated) if expected == stated => Ok(()),
        _ => Err(Error::new(
            Code::RegistryMismatch,
            format!("{}: image digest", Code::RegistryMismatch.entry().summary),
        )),
    }
}

/// A path of an envelope; envelopes do not name their plan, so any stands in for it.
fn parse(text: &str) -> Result<WorldPath> {
    WorldPath::parse(text, Some(&PlanAddress::parse("/world/any/any")?))
}

fn is_prefix(text: &str) -> bool {
    parse(text).is_ok_and(|path| path.is_prefix() && path.relative() == text)
}

/// Canonical bytes of a success; `outputs` are entries `{path, cid, size_bytes, mime}` in any
/// order.
///
/// # Errors
/// Those of [`validate`].
pub fn success(
    execution_id: &str,
    write_prefix: &str,
    outputs: Vec<Value>,
    env_fingerprint: &str,
    image_digest: Option<&str>,
) -> Result<Vec<u8>> {
    let mut outputs = outputs;
    outputs.sort_by(|a, b| key(a).cmp(&key(b)));
    let envelope = object([
        ("status", text("success")),
        ("execution_id", text(execution_id)),
        ("outputs", Value::Array(outputs)),
        ("index_path", text(&format!("{write_prefix}{INDEX}"))),
        ("meta", meta(env_fingerprint, "image_digest", image_digest)),
    ]);
    validate(envelope, &Expect::default()).map(|envelope| canonical(&envelope))
}

fn key(output: &Value) -> Option<&str> {
    output.get("path").and_then(Value::as_str)
}

/// Canonical bytes of an error.
///
/// The message is the catalogue's sentence for the code; `reason`, if there is one, follows it and
/// a colon, unless it starts with that sentence itself. `stderr_tail` is cut to its last 2 KiB.
///
/// # Errors
/// Those of [`validate`]; `ERR_INPUTS` for an unknown code.
pub fn failure(
    execution_id: &str,
    code: &str,
    reason: Option<&str>,
    env_fingerprint: &str,
    stderr_tail: Option<&str>,
) -> Result<Vec<u8>> {
    let entry = find(code).ok_or_else(|| Error::new(Code::Inputs, "unknown error code"))?;
    let message = match reason {
        None => entry.summary.to_owned(),
        Some(reason) if reason.starts_with(entry.summary) => reason.to_owned(),
        Some(reason) => format!("{}: {reason}", entry.summary),
    };
    let envelope = object([
        ("status", text("error")),
        ("execution_id", text(execution_id)),
        ("error", object([("code", text(code)), ("message", Value::Str(message))])),
        ("meta", meta(env_fingerprint, "stderr_tail", stderr_tail.map(tail).as_deref())),
    ]);
    validate(envelope, &Expect::default()).map(|envelope| canonical(&envelope))
}

/// The last 2 KiB of a text, from a character's start on, without noncharacters.
fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(STDERR_TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let legal = |character: char| if is_noncharacter(character) { '\u{fffd}' } else { character };
    text[start..].chars().map(legal).collect()
}

fn meta(env_fingerprint: &str, name: &str, fact: Option<&str>) -> Value {
    let mut members = vec![("env_fingerprint".to_owned(), text(env_fingerprint))];
    members.extend(fact.map(|fact| (name.to_owned(), text(fact))));
    Value::Object(members)
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// Refusal of an envelope that has no JSON value at all.
#[must_use]
pub fn unreadable(error: &Error) -> Error {
    invocation("malformed envelope").with("reason", error.code.as_str())
}

fn malformed(misfit: &Misfit) -> Error {
    let place = if misfit.place.is_empty() { "envelope" } else { &misfit.place };
    let error = invocation("malformed envelope").with("place", place);
    error.with("problem", misfit.problem)
}

fn invocation(reason: &str) -> Error {
    let code = Code::AdapterInvocation;
    Error::new(code, format!("{}: {reason}", code.entry().summary))
}
