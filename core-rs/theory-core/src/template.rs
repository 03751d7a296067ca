//! Write prefixes: a template with one execution id to the prefix that a processor may write to.

use crate::error::{Code, Error, Result};
use crate::path::{PlanAddress, WorldPath, is_name};
use crate::selector::{Kind, Selector, check_writable};

/// The one placeholder, a whole segment of the raw text.
pub const PLACEHOLDER: &str = "{execution_id}";

/// Expands a write prefix once and canonicalises it (spec: WorldPath, write prefix).
///
/// # Errors
/// `ERR_PREFIX_TEMPLATE` when the placeholder is missing, repeated, part of a segment or before the
/// facet's segments, and for any other brace, escaped or not; `ERR_SELECTOR_KIND_MISMATCH` without
/// a trailing slash; `ERR_INPUTS` for a bad execution id; the codes of [`WorldPath::parse`] and
/// [`check_writable`].
pub fn expand_prefix(
    template: &str,
    execution_id: &str,
    root: Option<&PlanAddress>,
) -> Result<WorldPath> {
    if !is_name(execution_id) {
        return Err(Error::new(Code::Inputs, "invalid execution id"));
    }
    let mut segments: Vec<&str> = template.split('/').collect();
    let mut places = segments.iter_mut().filter(|segment| **segment == PLACEHOLDER);
    match (places.next(), places.next()) {
        (Some(place), None) => *place = execution_id,
        (None, _) => return Err(refused("the template needs {execution_id} as a whole segment")),
        (_, Some(_)) => return Err(refused("the template has {execution_id} twice")),
    }
    let expanded = segments.join("/");
    if has_brace(&expanded) {
        return Err(refused("the template has another brace"));
    }
    let path = WorldPath::parse(&expanded, root)?;
    let raw = template.strip_suffix('/').unwrap_or(template);
    let behind = raw.rsplit('/').take_while(|segment| *segment != PLACEHOLDER).count();
    if behind >= path.segments().len() {
        return Err(refused("{execution_id} stands before the facet's segments"));
    }
    let selector = Selector::new(Kind::Prefix, path)?;
    check_writable(&selector)?;
    Ok(selector.path().clone())
}

fn has_brace(text: &str) -> bool {
    let escapes = ["%7b", "%7B", "%7d", "%7D"];
    text.contains(['{', '}']) || escapes.iter().any(|escape| text.contains(escape))
}

fn refused(message: &'static str) -> Error {
    Error::new(Code::PrefixTemplate, message)
}
