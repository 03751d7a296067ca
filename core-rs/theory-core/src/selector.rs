//! Selectors: a path and whether it means itself or everything below it.

use crate::error::{Code, Error, Result};
use crate::path::WorldPath;

/// Whether a selector names one address or a subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One address; the path has no trailing slash.
    Exact,
    /// The address and everything below it; the path has a trailing slash.
    Prefix,
}

impl Kind {
    /// The kind's name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Exact => "exact",
            Kind::Prefix => "prefix",
        }
    }

    /// The kind with this name.
    ///
    /// # Errors
    /// `ERR_SELECTOR_KIND_MISMATCH` for any other text.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "exact" => Ok(Kind::Exact),
            "prefix" => Ok(Kind::Prefix),
            _ => Err(Error::new(Code::SelectorKindMismatch, "selector kind is exact or prefix")),
        }
    }
}

/// Part of the World that a transition writes or a lease holds.
///
/// Law: the kind and the trailing slash of the path agree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selector(WorldPath);

impl Selector {
    /// A selector of the stated kind.
    ///
    /// # Errors
    /// `ERR_SELECTOR_KIND_MISMATCH` when the path's trailing slash says otherwise.
    pub fn new(kind: Kind, path: WorldPath) -> Result<Self> {
        if path.is_prefix() == (kind == Kind::Prefix) {
            return Ok(Self(path));
        }
        let message = match kind {
            Kind::Exact => "an exact selector has no trailing slash",
            Kind::Prefix => "a prefix selector has a trailing slash",
        };
        Err(Error::new(Code::SelectorKindMismatch, message))
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.0.is_prefix() { Kind::Prefix } else { Kind::Exact }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &WorldPath {
        &self.0
    }

    /// Whether both may name one address: the segment lists are equal, or one is a prefix selector
    /// whose segments begin the other's.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.overlaps(&other.0)
    }

    /// Whether everything that `other` names is named by this selector too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }
}

/// Refuses a write set that a processor may not have.
///
/// Processors write to artifacts, streams and declared facets only; `/artifacts/execution/**` is
/// the orchestrator's own (spec: WorldPath, facets).
///
/// # Errors
/// `ERR_BAD_FACET` for the facets `plan` and `ledger`; `ERR_FORBIDDEN_SEGMENT` for a selector that
/// touches the orchestrator's own artifacts.
pub fn check_writable(selector: &Selector) -> Result<()> {
    let path = selector.path();
    if matches!(path.facet(), "plan" | "ledger") {
        return Err(Error::new(Code::BadFacet, "processors do not write to this facet"));
    }
    let own = WorldPath::parse("/artifacts/execution/", Some(path.root()))?;
    if path.overlaps(&own) {
        let message = "artifacts/execution belongs to the orchestrator";
        return Err(Error::new(Code::ForbiddenSegment, message));
    }
    Ok(())
}
