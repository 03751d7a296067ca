//! WorldPath: the one canonical address of everything in the World.

use std::fmt;

use crate::error::{Code, Error, Result};
use crate::limits::{PATH_BYTES, SEGMENT_BYTES};
use crate::unicode::{fold, is_visible};

/// Facets that an address may name; the last four exist where the registry declares them.
pub const FACETS: [&str; 8] =
    ["artifacts", "streams", "plan", "ledger", "senses", "effectors", "memories", "conversations"];

/// Segments that no path may contain.
const FORBIDDEN: [&str; 3] = [".git", ".well-known", ".theory"];

/// First segment of an absolute path; also the scheme of the URI form.
const WORLD: &str = "world";
const SCHEME: &str = "world://";

/// Longest tenant, plan or transition id in bytes.
const NAME_BYTES: usize = 63;

/// Whether the text is a tenant, plan, transition or execution id.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let first = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let later = |byte: u8| first(byte) || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= NAME_BYTES
        && text.bytes().next().is_some_and(first)
        && text.bytes().all(later)
        && !text.contains("..")
}

/// Address of a plan: `/world/{tenant}/{plan}`; what plan-relative paths start from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlanAddress {
    tenant: String,
    plan: String,
}

impl PlanAddress {
    /// Reads `/world/{tenant}/{plan}` or its `world://` form, with or without a trailing slash.
    ///
    /// # Errors
    /// `ERR_PATH_SYNTAX`, `ERR_PATH_TOO_LONG`.
    pub fn parse(text: &str) -> Result<Self> {
        check_length(spelled(text.as_bytes()))?;
        let rest = text.strip_prefix(SCHEME).or_else(|| text.strip_prefix("/world/"));
        let names = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        match names.and_then(|names| names.split_once('/')) {
            Some((tenant, plan)) if is_name(tenant) && is_name(plan) => {
                Ok(Self { tenant: tenant.to_owned(), plan: plan.to_owned() })
            }
            _ => Err(Error::new(Code::PathSyntax, "not an address of a plan")),
        }
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The plan's own name.
    #[must_use]
    pub fn plan(&self) -> &str {
        &self.plan
    }
}

impl fmt::Display for PlanAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "/{WORLD}/{}/{}", self.tenant, self.plan)
    }
}

/// A canonical path of the World (spec: WorldPath).
///
/// Law: `parse(str(p)) == parse(uri(p)) == p`; canonicalisation never leaves tenant, plan or facet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorldPath {
    root: PlanAddress,
    facet: &'static str,
    segments: Vec<String>,
    prefix: bool,
}

impl WorldPath {
    /// Canonicalises an absolute path, or a plan-relative one under `root`.
    ///
    /// # Errors
    /// `ERR_PATH_TOO_LONG`, `ERR_PATH_SYNTAX`, `ERR_PERCENT_DECODE`, `ERR_DECODED_SLASH`,
    /// `ERR_DOT_SEGMENTS`, `ERR_FORBIDDEN_SEGMENT`, `ERR_SEGMENT_TOO_LONG`, `ERR_BAD_FACET`: that
    /// of the first step that fails; within a step the leftmost segment, `detail.segment` from 0.
    pub fn parse(text: &str, root: Option<&PlanAddress>) -> Result<Self> {
        let raw = Raw::absolute(text)?;
        let segments = raw.canonical()?;
        let (root, head) = raw.head(&segments, root)?;
        let facet = FACETS.iter().find(|facet| **facet == raw.segments[head - 1]);
        let path = Self {
            root,
            facet: facet.ok_or_else(|| bad_facet(head - 1))?,
            segments: segments[head..].to_vec(),
            prefix: raw.prefix,
        };
        path.bounded()
    }

    /// As [`WorldPath::parse`], for bytes that may not even be UTF-8 (`ERR_PATH_SYNTAX`).
    ///
    /// # Errors
    /// Those of [`WorldPath::parse`].
    pub fn parse_bytes(text: &[u8], root: Option<&PlanAddress>) -> Result<Self> {
        check_length(spelled(text))?;
        Self::parse(unicode(text)?, root)
    }

    /// The path below this one that `rel` names; `rel` has no leading slash.
    ///
    /// # Errors
    /// Those of [`WorldPath::parse`].
    pub fn join(&self, rel: &str) -> Result<Self> {
        let raw = Raw::relative(rel)?;
        let mut path = self.clone();
        for (index, segment) in raw.canonical()?.into_iter().enumerate() {
            check_segment(index, &segment)?;
            path.segments.push(segment);
        }
        path.prefix = raw.prefix;
        path.bounded()
    }

    /// As [`WorldPath::join`], for bytes that may not even be UTF-8 (`ERR_PATH_SYNTAX`).
    ///
    /// # Errors
    /// Those of [`WorldPath::parse`].
    pub fn join_bytes(&self, rel: &[u8]) -> Result<Self> {
        check_length(rel.len())?;
        self.join(unicode(rel)?)
    }

    fn bounded(self) -> Result<Self> {
        let names = [self.tenant(), self.plan(), self.facet];
        let segments = self.segments.iter().map(String::as_str);
        let total: usize = names.into_iter().chain(segments).map(|part| part.len() + 1).sum();
        if total + 1 + WORLD.len() + usize::from(self.prefix) > PATH_BYTES {
            return Err(too_long());
        }
        Ok(self)
    }

    /// The plan that the path belongs to.
    #[must_use]
    pub fn root(&self) -> &PlanAddress {
        &self.root
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.root.tenant()
    }

    /// The plan's own name.
    #[must_use]
    pub fn plan(&self) -> &str {
        self.root.plan()
    }

    /// The facet, one of [`FACETS`].
    #[must_use]
    pub fn facet(&self) -> &'static str {
        self.facet
    }

    /// Canonical segments after the facet.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Whether the path ends in a slash and so names everything below it.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.prefix
    }

    /// The same address with the scheme `world://`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}{}", self.tenant(), self.plan(), self.relative())
    }

    /// The plan-relative form: `/{facet}[/{segment}…][/]`.
    #[must_use]
    pub fn relative(&self) -> String {
        let mut text = format!("/{}", self.facet);
        for segment in &self.segments {
            text.push('/');
            text.push_str(segment);
        }
        if self.prefix {
            text.push('/');
        }
        text
    }

    /// Whether everything `other` names is named by this path too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        if self.prefix { other.starts_with(self) } else { self == other }
    }

    /// Whether one address may be named by both (spec: WorldPath, overlap).
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let same = self.segments.len() == other.segments.len() && self.starts_with(other);
        same || (self.prefix && other.starts_with(self))
            || (other.prefix && self.starts_with(other))
    }

    /// Whether the segment list of `ancestor` begins (or is) the one of this path.
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.root == ancestor.root
            && self.facet == ancestor.facet
            && self.segments.starts_with(&ancestor.segments)
    }
}

impl fmt::Display for WorldPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.root, self.relative())
    }
}

/// Raw segments of a text that passed the syntax step.
struct Raw<'a> {
    segments: Vec<&'a str>,
    prefix: bool,
}

impl<'a> Raw<'a> {
    fn absolute(text: &'a str) -> Result<Self> {
        check_length(spelled(text.as_bytes()))?;
        if let Some(rest) = text.strip_prefix(SCHEME) {
            let mut raw = Self::split(rest)?;
            raw.segments.insert(0, WORLD);
            return Ok(raw);
        }
        match text.strip_prefix('/') {
            Some(rest) => Self::split(rest),
            None => Err(Error::new(Code::PathSyntax, "path has no leading slash")),
        }
    }

    fn relative(text: &'a str) -> Result<Self> {
        check_length(text.len())?;
        Self::split(text)
    }

    fn split(text: &'a str) -> Result<Self> {
        let body = text.strip_suffix('/').unwrap_or(text);
        let segments: Vec<&str> = body.split('/').collect();
        for (index, segment) in segments.iter().enumerate() {
            if segment.is_empty() {
                return Err(at(index, Code::PathSyntax, "empty segment"));
            }
            if segment.contains(is_reserved) {
                return Err(at(index, Code::PathSyntax, "reserved character in a segment"));
            }
        }
        Ok(Self { segments, prefix: body.len() < text.len() })
    }

    /// Every segment decoded, checked and folded, step by step over all of them.
    fn canonical(&self) -> Result<Vec<String>> {
        let indexed = self.segments.iter().enumerate();
        let decoded: Vec<String> =
            indexed.map(|(index, segment)| decode(index, segment)).collect::<Result<_>>()?;
        for (index, segment) in decoded.iter().enumerate() {
            check_characters(index, segment)?;
        }
        Ok(decoded.iter().map(|segment| fold(segment)).collect())
    }

    /// The plan and the number of segments up to and with the facet, every segment checked.
    fn head(&self, folded: &[String], root: Option<&PlanAddress>) -> Result<(PlanAddress, usize)> {
        let absolute = self.segments[0] == WORLD;
        let facet = if absolute { 3 } else { 0 };
        for (index, segment) in folded.iter().enumerate() {
            check_segment(index, segment)?;
            let raw = self.segments[index];
            if index == facet && !FACETS.contains(&raw) {
                return Err(bad_facet(index));
            }
            if index > 0 && index < facet && !is_name(raw) {
                return Err(at(index, Code::PathSyntax, "not a name of a tenant or plan"));
            }
        }
        let names = if absolute { self.segments.get(1).zip(self.segments.get(2)) } else { None };
        let root = match (absolute, names, root) {
            (true, Some((tenant, plan)), _) => {
                PlanAddress { tenant: (*tenant).to_owned(), plan: (*plan).to_owned() }
            }
            (false, _, Some(root)) => root.clone(),
            (true, None, _) => return Err(Error::new(Code::PathSyntax, "path names no plan")),
            (false, _, None) => {
                return Err(Error::new(Code::PathSyntax, "plan-relative path without a plan"));
            }
        };
        if folded.len() <= facet { Err(bad_facet(facet)) } else { Ok((root, facet + 1)) }
    }
}

fn unicode(text: &[u8]) -> Result<&str> {
    let refused = |_| Error::new(Code::PathSyntax, "path is not Unicode text");
    std::str::from_utf8(text).map_err(refused)
}

/// Bytes of a text that count against the limit: those of its `/world/…` spelling, so that the URI
/// of every path is an address.
fn spelled(text: &[u8]) -> usize {
    let scheme = text.starts_with(SCHEME.as_bytes());
    text.len() - if scheme { SCHEME.len() - "/world/".len() } else { 0 }
}

fn check_length(bytes: usize) -> Result<()> {
    if bytes > PATH_BYTES { Err(too_long()) } else { Ok(()) }
}

/// Characters with a meaning of their own in URIs, templates or foreign file systems.
fn is_reserved(character: char) -> bool {
    matches!(character, '?' | '#' | '\\' | '{' | '}')
}

/// Percent-decodes once.
fn decode(index: usize, segment: &str) -> Result<String> {
    let malformed = |message| at(index, Code::PercentDecode, message);
    if !segment.contains('%') {
        return Ok(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let byte = tail.first_chunk().copied().and_then(hex_byte);
            bytes.push(byte.ok_or_else(|| malformed("malformed percent escape"))?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed("escapes are not UTF-8"))?;
    if text.contains('%') {
        return Err(malformed("a percent sign is left after decoding"));
    }
    if text.contains('/') {
        return Err(at(index, Code::DecodedSlash, "a slash is left after decoding"));
    }
    Ok(text)
}

fn hex_byte(digits: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

fn check_characters(index: usize, segment: &str) -> Result<()> {
    let refused = |character: char| is_reserved(character) || !is_visible(character);
    if segment.contains(refused) {
        return Err(at(index, Code::PathSyntax, "character not allowed in a segment"));
    }
    if segment.starts_with(' ') || segment.ends_with(' ') {
        return Err(at(index, Code::PathSyntax, "segment starts or ends with a space"));
    }
    Ok(())
}

/// The checks on a canonical segment.
fn check_segment(index: usize, segment: &str) -> Result<()> {
    if matches!(segment, "." | "..") {
        return Err(at(index, Code::DotSegments, "dot segment"));
    }
    if FORBIDDEN.contains(&segment) {
        return Err(at(index, Code::ForbiddenSegment, "forbidden segment"));
    }
    if segment.len() > SEGMENT_BYTES {
        return Err(at(index, Code::SegmentTooLong, "segment longer than 255 bytes"));
    }
    Ok(())
}

fn at(index: usize, code: Code, message: &'static str) -> Error {
    Error::new(code, message).with("segment", index)
}

fn bad_facet(index: usize) -> Error {
    at(index, Code::BadFacet, "path has no known facet")
}

fn too_long() -> Error {
    Error::new(Code::PathTooLong, "path longer than 1024 bytes").with("limit", PATH_BYTES)
}
