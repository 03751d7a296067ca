//! Number text: JSON literals to values and doubles to their one canonical spelling.

use crate::error::{Code, Error, Result};
use crate::json::{Scalar, Value};

/// Largest magnitude of an integer that every reader of JSON agrees on: 2^53 - 1.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Canonical text of a finite double, as ECMAScript writes it (RFC 8785, 3.2.2.3).
///
/// Negative zero is `0`. Callers have refused NaN and infinities before.
pub(crate) fn push_float(out: &mut Vec<u8>, value: f64) {
    debug_assert!(value.is_finite(), "the doors refuse what has no JSON text");
    out.extend_from_slice(ryu_js::Buffer::new().format(value).as_bytes());
}

/// Decimal text of an integer.
pub(crate) fn push_int(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

/// An integer that fits the range both doors accept.
///
/// # Errors
/// `ERR_JSON_NUMBER` beyond ±(2^53 - 1).
pub fn integer(value: i64) -> Result<Value> {
    if value.unsigned_abs() > MAX_SAFE_INTEGER.unsigned_abs() {
        return Err(unsafe_integer());
    }
    Ok(Value::Int(value))
}

/// A double that has a JSON text.
///
/// # Errors
/// `ERR_JSON_NUMBER` for NaN and infinities.
pub fn float(value: f64) -> Result<Value> {
    if !value.is_finite() {
        return Err(Error::new(Code::JsonNumber, "number is not finite"));
    }
    Ok(Value::Float(value))
}

/// Refusal of an integer whose digits a double would change.
#[must_use]
pub fn unsafe_integer() -> Error {
    Error::new(Code::JsonNumber, "integer beyond 2^53 - 1")
}

/// Value of a literal that already matched the grammar of RFC 8259; `whole` if it has neither
/// fraction nor exponent.
///
/// Law: no accepted integer literal ever changes its digits (spec: canonical JSON).
pub(crate) fn literal(text: &str, whole: bool) -> Result<Scalar<'static>> {
    if !whole {
        return double(text).map(Scalar::Float);
    }
    match text.parse::<i64>() {
        Ok(value) if value.unsigned_abs() <= MAX_SAFE_INTEGER.unsigned_abs() => {
            Ok(Scalar::Int(value))
        }
        _ => {
            let value = double(text).map_err(|_| unsafe_integer())?;
            if ryu_js::Buffer::new().format(value) == text {
                Ok(Scalar::Float(value))
            } else {
                Err(unsafe_integer())
            }
        }
    }
}

fn double(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(Error::new(Code::JsonNumber, "number overflows a double")),
    }
}
