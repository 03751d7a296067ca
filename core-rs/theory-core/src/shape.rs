//! Shapes of closed documents: which members an object has, and what each may hold.

use crate::json::Value;

/// What a value has to be.
pub(crate) enum Rule {
    /// Something that a predicate accepts.
    Is(fn(&Value) -> bool),
    /// An object of these members.
    Object(&'static [Member]),
    /// An array of objects of these members.
    Objects(&'static [Member]),
}

/// A member of an object.
pub(crate) struct Member {
    name: &'static str,
    required: bool,
    rule: Rule,
}

/// A member that has to be there.
pub(crate) const fn must(name: &'static str, rule: Rule) -> Member {
    Member { name, required: true, rule }
}

/// A member that may be absent.
pub(crate) const fn may(name: &'static str, rule: Rule) -> Member {
    Member { name, required: false, rule }
}

/// What happens to members that a shape does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The document is refused.
    Refuse,
    /// They are left out.
    Drop,
}

/// Where and how a document departs from its shape; never repeats the document's own text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Names of known members, joined by dots; empty for the document itself.
    pub place: String,
    /// `missing`, `unknown` or `invalid`.
    pub problem: &'static str,
}

impl Misfit {
    pub(crate) fn new(place: &str, problem: &'static str) -> Self {
        Self { place: place.to_owned(), problem }
    }

    fn within(mut self, name: &str) -> Self {
        let dot = if self.place.is_empty() { "" } else { "." };
        self.place = format!("{name}{dot}{}", self.place);
        self
    }
}

/// The object, if it has this shape.
pub(crate) fn fit(value: Value, shape: &[Member], unknown: Unknown) -> Result<Value, Misfit> {
    let Value::Object(members) = value else {
        return Err(Misfit::new("", "invalid"));
    };
    let mut fitted = Vec::with_capacity(members.len());
    for (name, value) in members {
        match shape.iter().find(|member| member.name == name) {
            Some(member) => {
                let value = member.rule.apply(value, unknown);
                fitted.push((name, value.map_err(|misfit| misfit.within(member.name))?));
            }
            None if unknown == Unknown::Refuse => return Err(Misfit::new("", "unknown")),
            None => {}
        }
    }
    let present = |member: &&Member| fitted.iter().any(|(name, _)| name == member.name);
    match shape.iter().find(|member| member.required && !present(member)) {
        Some(member) => Err(Misfit::new(member.name, "missing")),
        None => Ok(Value::Object(fitted)),
    }
}

impl Rule {
    fn apply(&self, value: Value, unknown: Unknown) -> Result<Value, Misfit> {
        match (self, value) {
            (Rule::Is(accepts), value) if accepts(&value) => Ok(value),
            (Rule::Object(shape), value) => fit(value, shape, unknown),
            (Rule::Objects(shape), Value::Array(items)) => {
                let fitted = items.into_iter().map(|item| fit(item, shape, unknown));
                fitted.collect::<Result<_, _>>().map(Value::Array)
            }
            _ => Err(Misfit::new("", "invalid")),
        }
    }
}
