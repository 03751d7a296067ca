//! Canonical JSON (RFC 8785): one value, one text; both doors share the rules kept here.

mod build;
mod order;
mod parse;
mod sink;
mod stream;
mod token;
mod write;

pub use build::Builder;
pub use order::compare_names;
pub use parse::{parse, read};
pub use sink::{Container, Scalar, Sink, Text};
pub use stream::canonicalize_json;
pub use write::canonical;

/// A JSON value whose members keep the order in which they were read.
///
/// Values made by [`parse`] and [`Builder`] hold the rules of canonical JSON: integers within
/// ±(2^53 - 1), finite doubles, no noncharacters, no duplicate names, depth within the limit.
/// Whoever builds one by hand answers for them.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer within ±(2^53 - 1).
    Int(i64),
    /// A finite double.
    Float(f64),
    /// Text without noncharacters.
    Str(String),
    /// Elements in order.
    Array(Vec<Value>),
    /// Members with unique names, in the order read.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The member `name`, if this is an object that has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => {
                members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The text, if this is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if this is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements, if this is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The members, if this is an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }
}
