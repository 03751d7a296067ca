//! The catalogue of error codes: for each its status, whether a retry can help, and what to do.

use std::fmt;

/// What the catalogue says about one code (spec: errors).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// Its stable text, `ERR_…`.
    pub name: &'static str,
    /// Its one HTTP status.
    pub status: u16,
    /// Whether the same request may succeed later without a change.
    pub retryable: bool,
    /// What happened; error envelopes start their message with it.
    pub summary: &'static str,
    /// What the user should do.
    pub remedy: &'static str,
}

/// The entry of a code text, if there is such a code.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

impl Code {
    /// What the catalogue says about this code.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }

    /// The stable text, `ERR_…`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Declares [`Code`] and [`CATALOGUE`] from one list, so that neither can miss an entry.
macro_rules! codes {
    ($($variant:ident $name:literal $status:literal $retry:tt $summary:literal
       $remedy:literal;)+) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(
                #[doc = concat!("`", $name, "`: ", $summary, ".")]
                $variant,
            )+
        }

        /// Every code, in the order of the specification.
        pub const CATALOGUE: &[Entry] = &[$(Entry {
            code: Code::$variant,
            name: $name,
            status: $status,
            retryable: retry!($retry),
            summary: $summary,
            remedy: $remedy,
        }),+];
    };
}

/// Whether the third column of the list says that a retry can help.
macro_rules! retry {
    (retryable) => {
        true
    };
    (-) => {
        false
    };
}

codes! {
    Inputs "ERR_INPUTS" 400 -
        "invalid inputs payload"
        "Correct the request at the place that detail names, then send it again.";
    PlanInvalid "ERR_PLAN_INVALID" 400 -
        "invalid plan document"
        "Correct the plan document at the place that the message names.";
    ModeInvalid "ERR_MODE_INVALID" 400 -
        "invalid mode"
        "Use mode mock or real, one that the processor and the lane allow.";
    PrefixTemplate "ERR_PREFIX_TEMPLATE" 400 -
        "invalid write prefix template"
        "Write {execution_id} exactly once, as a whole segment, and no other brace.";
    JsonSyntax "ERR_JSON_SYNTAX" 400 -
        "not a JSON text"
        "Correct the JSON text at the stated line and column.";
    JsonUtf8 "ERR_JSON_UTF8" 400 -
        "JSON text is not UTF-8"
        "Save the document as UTF-8 without a byte order mark.";
    JsonDuplicate "ERR_JSON_DUPLICATE" 400 -
        "duplicate member name"
        "Keep one of the members that share a name.";
    JsonNumber "ERR_JSON_NUMBER" 400 -
        "number cannot be kept exactly"
        "Keep integers within 2^53 - 1 and doubles finite, or write the number as a string.";
    JsonUnicode "ERR_JSON_UNICODE" 400 -
        "text holds a surrogate or a noncharacter"
        "Remove the lone surrogate or noncharacter from the text.";
    JsonDepth "ERR_JSON_DEPTH" 400 -
        "nesting too deep or cyclic"
        "Flatten the document, or break the cycle.";
    JsonType "ERR_JSON_TYPE" 400 -
        "value has no JSON form"
        "Use null, booleans, numbers, strings, lists, and dicts with string keys.";
    PathSyntax "ERR_PATH_SYNTAX" 400 -
        "malformed path"
        "Write /world/{tenant}/{plan}/{facet}/… without empty segments or reserved characters.";
    PercentDecode "ERR_PERCENT_DECODE" 400 -
        "malformed percent escape in a path"
        "Escape each byte once as %XX; the decoded bytes must be UTF-8 without a percent sign.";
    DecodedSlash "ERR_DECODED_SLASH" 400 -
        "escaped slash in a path"
        "Write the slash as a separator, or leave it out of the name.";
    DotSegments "ERR_DOT_SEGMENTS" 400 -
        "dot segment in a path"
        "Write the path without . and .. segments.";
    ForbiddenSegment "ERR_FORBIDDEN_SEGMENT" 400 -
        "forbidden segment in a path"
        "Choose another name; .git, .well-known, .theory and artifacts/execution are reserved.";
    SegmentTooLong "ERR_SEGMENT_TOO_LONG" 400 -
        "path segment too long"
        "Shorten the segment to at most 255 bytes.";
    PathTooLong "ERR_PATH_TOO_LONG" 400 -
        "path too long"
        "Shorten the path to at most 1024 bytes.";
    BadFacet "ERR_BAD_FACET" 400 -
        "unknown or unwritable facet"
        "Start the path with a facet such as /artifacts/; folders of this machine go to --out.";
    SelectorKindMismatch "ERR_SELECTOR_KIND_MISMATCH" 400 -
        "selector kind and path disagree"
        "End the path of a prefix selector with a slash, and that of an exact one without.";
    Unauthenticated "ERR_UNAUTHENTICATED" 401 -
        "no valid key"
        "Send a valid key as a bearer token.";
    BudgetExceeded "ERR_BUDGET_EXCEEDED" 402 -
        "budget exceeded"
        "Raise the budget (theory plan topup) or lower the estimate of the transition.";
    Forbidden "ERR_FORBIDDEN" 403 -
        "not allowed"
        "Use the server's own address, and a key whose scope covers this tenant and action.";
    CiSafety "ERR_CI_SAFETY" 403 -
        "Refusing to run mode=real in CI"
        "Run mode mock in CI; mode real belongs outside of it.";
    NotFound "ERR_NOT_FOUND" 404 -
        "not found"
        "Check the name or path; list what there is first.";
    Conflict "ERR_CONFLICT" 409 -
        "conflict with the present state"
        "Read the present state and decide again.";
    LeaseConflict "ERR_LEASE_CONFLICT" 409 retryable
        "write set is leased"
        "Wait until the other transition settles, or give the transitions disjoint write sets.";
    IdempotencyInFlight "ERR_IDEMPOTENCY_IN_FLIGHT" 409 retryable
        "the first request with this key is still running"
        "Wait, then send the same request again for its answer.";
    NotWriter "ERR_NOT_WRITER" 409 retryable
        "another process writes here"
        "Ask the other process (theory serve answers over HTTP), stop it, or use another home.";
    ImageUnpinned "ERR_IMAGE_UNPINNED" 409 -
        "image not pinned"
        "Pin the image by its digest, or work in the build lane.";
    RegistryMismatch "ERR_REGISTRY_MISMATCH" 409 -
        "registry and runtime disagree"
        "Bring the pin, the platform or the Python of the processor in line with the registry.";
    Cancelled "ERR_CANCELLED" 409 -
        "cancelled"
        "Nothing to correct; apply the plan again to run it anew.";
    PredicateFailed "ERR_PREDICATE_FAILED" 412 -
        "predicate failed"
        "Read the verdict's reason; correct what the predicate looks at, or the predicate.";
    TooLarge "ERR_TOO_LARGE" 413 -
        "too large"
        "Stay within the stated limit; put large bytes into artifacts.";
    IdempotencyMismatch "ERR_IDEMPOTENCY_MISMATCH" 422 -
        "idempotency key was used with another body"
        "Use a new key for a new request.";
    MissingSecret "ERR_MISSING_SECRET" 424 -
        "missing required secret"
        "Set an environment variable of the secret's name for the control plane, \
         or use mode mock.";
    ImageNotFound "ERR_IMAGE_NOT_FOUND" 424 -
        "image not found"
        "Build or pull the image, or correct the pin.";
    ImagePull "ERR_IMAGE_PULL" 424 retryable
        "image cannot be pulled"
        "Check the network and the registry's credentials, then try again.";
    EndpointMissing "ERR_ENDPOINT_MISSING" 424 -
        "endpoint missing"
        "Deploy the processor first, or set its endpoint.";
    RateLimited "ERR_RATE_LIMITED" 429 retryable
        "rate limited"
        "Slow down; try again after the stated time.";
    Internal "ERR_INTERNAL" 500 -
        "internal error"
        "Read the log of this execution id, and report what it shows.";
    Orphaned "ERR_ORPHANED" 500 retryable
        "execution lost its owner"
        "Nothing at once: the hold stays until the work is known to have stopped.";
    ArtifactDigest "ERR_ARTIFACT_DIGEST" 500 -
        "artifact does not match its digest"
        "Restore the artifact from a backup; its digest says whether it is the right one.";
    ChainBroken "ERR_CHAIN_BROKEN" 500 -
        "ledger chain is broken"
        "Stop writing; compare with a backup from the stated seq on.";
    ChainRegression "ERR_CHAIN_REGRESSION" 500 -
        "ledger is behind its last known head"
        "Stop writing; find out which restore or failover lost the later events.";
    CheckpointMismatch "ERR_CHECKPOINT_MISMATCH" 500 -
        "ledger contradicts a checkpoint"
        "Stop writing; compare the ledger with the holder of the checkpoint.";
    WsProtocol "ERR_WS_PROTOCOL" 502 -
        "protocol violated"
        "Correct the peer: it has to speak theory.run.v1.";
    WsClose "ERR_WS_CLOSE" 502 retryable
        "connection closed before the result"
        "Try again; read the processor's log if it happens again.";
    AdapterInvocation "ERR_ADAPTER_INVOCATION" 502 -
        "adapter invocation failed"
        "Correct the processor: its answer breaks the envelope's contract.";
    ModalInvocation "ERR_MODAL_INVOCATION" 502 retryable
        "modal invocation failed"
        "Look at the app's log, then try again.";
    Provider "ERR_PROVIDER" 502 retryable
        "provider call failed"
        "Try again; check the provider's status and the key's quota.";
    Oom "ERR_OOM" 502 -
        "out of memory"
        "Raise the processor's memory in its spec, or give it less input.";
    OutputDuplicate "ERR_OUTPUT_DUPLICATE" 502 -
        "duplicate output after canonicalization"
        "Give the outputs names that differ after folding case, none below another.";
    OutputPrefix "ERR_OUTPUT_PREFIX" 502 -
        "output outside the write prefix"
        "Write below outputs/ of the execution's own write prefix only.";
    Receipt "ERR_RECEIPT" 502 -
        "receipt does not match the request"
        "Correct the processor's runtime: the receipt contradicts what was asked or measured.";
    Upload "ERR_UPLOAD" 502 retryable
        "upload failed"
        "Try again; check the space and the store behind the upload address.";
    Docker "ERR_DOCKER" 503 retryable
        "container engine unavailable"
        "Start the container engine, or check the permission to use it (theory doctor).";
    Health "ERR_HEALTH" 503 retryable
        "processor did not become healthy"
        "Read the processor's log; raise the health budget if it starts slowly.";
    Storage "ERR_STORAGE" 503 retryable
        "storage unavailable"
        "Check the path, its permissions and the free space, then try again.";
    Unavailable "ERR_UNAVAILABLE" 503 retryable
        "unavailable"
        "Try again later; the message names what is missing.";
    Timeout "ERR_TIMEOUT" 504 retryable
        "timed out"
        "Raise the timeout, or give the step less to do.";
    WsTimeout "ERR_WS_TIMEOUT" 504 retryable
        "connection timed out"
        "Try again; check that the processor's endpoint can be reached.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_finds_its_own_entry() {
        for entry in CATALOGUE {
            assert_eq!(entry.code.entry(), entry);
            assert_eq!(find(entry.name), Some(entry));
        }
        assert_eq!(find("ERR_NO_SUCH_CODE"), None);
    }

    #[test]
    fn names_are_unique_and_well_formed() {
        for (index, entry) in CATALOGUE.iter().enumerate() {
            assert!(entry.name.starts_with("ERR_"), "{}", entry.name);
            let upper = |byte: u8| matches!(byte, b'A'..=b'Z' | b'_' | b'0'..=b'9');
            assert!(entry.name.bytes().all(upper), "{}", entry.name);
            assert!(CATALOGUE[..index].iter().all(|other| other.name != entry.name));
        }
    }

    #[test]
    fn every_entry_says_what_happened_and_what_to_do() {
        for entry in CATALOGUE {
            assert!(!entry.summary.is_empty() && !entry.summary.ends_with('.'), "{}", entry.name);
            assert!(entry.remedy.ends_with('.'), "{}", entry.name);
            assert!((400..=599).contains(&entry.status), "{}", entry.name);
        }
    }
}
