//! Types of the members of event data: what a JSON Schema of `core-rs/vectors/events` can say.

use std::collections::BTreeSet;

use crate::json::Value;

/// What a member may hold.
pub(super) enum Type {
    /// Text of one to so many characters.
    Text(usize),
    /// Text that a grammar accepts.
    Word(fn(&str) -> bool),
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of one type, with at least and at most so many elements.
    List(&'static Type, usize, usize),
    /// A list of different texts that a grammar accepts.
    Set(fn(&str) -> bool),
    /// An object of these members and no other.
    Object(&'static [Member]),
    /// An object of any names whose members have one of some types.
    Map(&'static [Type]),
    /// An object of some of these names, whose members have one type.
    Named(&'static [&'static str], &'static Type),
    /// What one of these accepts.
    Either(&'static [Type]),
    /// Any value whose numbers are integers.
    Json,
}

/// A member of an object.
pub(super) struct Member {
    name: &'static str,
    required: bool,
    of: Type,
}

/// A member that has to be there.
pub(super) const fn must(name: &'static str, of: Type) -> Member {
    Member { name, required: true, of }
}

/// A member that may be absent, but is never null.
pub(super) const fn may(name: &'static str, of: Type) -> Member {
    Member { name, required: false, of }
}

/// The first member that departs from its type; no name for one that the shape does not know.
pub(super) type Misfit = Option<&'static str>;

/// Holds an object to groups of members that together are its shape.
pub(super) fn fit(value: &Value, shape: &[&'static [Member]]) -> Result<(), Misfit> {
    let members = value.as_object().ok_or(None)?;
    for (name, _) in members {
        if !shape.iter().copied().flatten().any(|member| member.name == name.as_str()) {
            return Err(None);
        }
    }
    for member in shape.iter().copied().flatten() {
        let fits = match value.get(member.name) {
            Some(value) => member.of.accepts(value),
            None => !member.required,
        };
        if !fits {
            return Err(Some(member.name));
        }
    }
    Ok(())
}

impl Type {
    /// Whether the value is of this type.
    pub fn accepts(&self, value: &Value) -> bool {
        match self {
            Type::Text(most) => value.as_str().is_some_and(|text| is_bounded(text, *most)),
            Type::Word(accepts) => value.as_str().is_some_and(accepts),
            Type::Integer(least, most) => {
                value.as_int().is_some_and(|number| (least..=most).contains(&&number))
            }
            Type::OneOf(names) => value.as_str().is_some_and(|text| names.contains(&text)),
            Type::List(item, least, most) => value.as_array().is_some_and(|items| {
                (least..=most).contains(&&items.len()) && items.iter().all(|it| item.accepts(it))
            }),
            Type::Set(accepts) => value.as_array().is_some_and(|items| {
                let mut seen = BTreeSet::new();
                let texts = items.iter().map(Value::as_str);
                texts
                    .into_iter()
                    .all(|text| text.is_some_and(|text| accepts(text) && seen.insert(text)))
            }),
            Type::Object(members) => fit(value, &[members]).is_ok(),
            Type::Map(types) => value.as_object().is_some_and(|members| {
                members.iter().all(|(_, value)| types.iter().any(|of| of.accepts(value)))
            }),
            Type::Named(names, of) => value.as_object().is_some_and(|members| {
                members
                    .iter()
                    .all(|(name, value)| names.contains(&name.as_str()) && of.accepts(value))
            }),
            Type::Either(types) => types.iter().any(|of| of.accepts(value)),
            Type::Json => is_exact(value),
        }
    }
}

/// Whether every number in the value is an integer.
fn is_exact(value: &Value) -> bool {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Float(_) => return false,
            Value::Array(items) => open.extend(items),
            Value::Object(members) => open.extend(members.iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    true
}

/// Whether the text has one to `most` characters.
pub(super) fn is_bounded(text: &str, most: usize) -> bool {
    // No character has less than one byte or more than four: most texts need no counting.
    let short = text.len() <= most || text.chars().nth(most).is_none();
    !text.is_empty() && short
}
