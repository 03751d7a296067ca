//! Grammars of the small facts that envelopes, frames and events share.

use crate::digest;
use crate::json::Value;
use crate::number::MAX_SAFE_INTEGER;
use crate::path::is_name;
use crate::unicode::has_noncharacter;

/// Dimensions of a budget (spec: budgets).
pub const DIMENSIONS: [&str; 7] =
    ["usd_micro", "cpu_ms", "gpu_ms", "io_bytes", "co2_mg", "tokens", "latency_ms"];

/// Prefix and number of hexadecimal digits of an OCI digest.
const OCI_PREFIX: &str = "sha256:";
const OCI_DIGITS: usize = 64;

/// Facts of an environment, in order; the flag says which have to be there.
const ENVIRONMENT: [(&str, bool); 6] = [
    ("cpu", true),
    ("gpu", false),
    ("memory", true),
    ("platform", true),
    ("runtime", true),
    ("secrets", false),
];

/// Longest media type in bytes.
const MIME_BYTES: usize = 255;

/// Whether the value is the id of a plan, transition or execution.
pub(crate) fn name(value: &Value) -> bool {
    value.as_str().is_some_and(is_name)
}

/// Whether the value is a `b3:` digest.
pub(crate) fn b3(value: &Value) -> bool {
    value.as_str().is_some_and(|text| digest::read(text).is_ok())
}

/// Whether the value is an OCI digest.
pub(crate) fn oci(value: &Value) -> bool {
    value.as_str().is_some_and(is_oci)
}

/// Whether the text is an OCI digest: `sha256:` and 64 lowercase hexadecimal digits.
#[must_use]
pub fn is_oci(text: &str) -> bool {
    let digits = text.strip_prefix(OCI_PREFIX);
    digits.is_some_and(|digits| digits.len() == OCI_DIGITS && digits.bytes().all(is_hex))
}

/// Whether the byte is a lowercase hexadecimal digit.
pub(crate) fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Whether the value is an integer from 0 on.
pub(crate) fn count(value: &Value) -> bool {
    value.as_int().is_some_and(|number| (0..=MAX_SAFE_INTEGER).contains(&number))
}

/// Whether the value is an integer from 1 on.
pub(crate) fn ordinal(value: &Value) -> bool {
    count(value) && value.as_int() != Some(0)
}

/// Whether the value is a vector of budget dimensions.
pub(crate) fn vector(value: &Value) -> bool {
    value.as_object().is_some_and(|members| {
        members.iter().all(|(name, amount)| DIMENSIONS.contains(&name.as_str()) && count(amount))
    })
}

/// Whether the value is a media type.
pub(crate) fn mime(value: &Value) -> bool {
    value.as_str().is_some_and(is_mime)
}

/// Whether the text is a media type: `type/subtype` in lower case, parameters after a semicolon.
#[must_use]
pub fn is_mime(text: &str) -> bool {
    let token = |part: &str| {
        let accepted = |byte: u8| {
            matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'&' | b'-' | b'^')
                || matches!(byte, b'_' | b'.' | b'+')
        };
        !part.is_empty() && part.bytes().all(accepted)
    };
    let essence = |text: &str| {
        text.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
    };
    let printable = |text: &str| {
        !text.trim().is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    text.len() <= MIME_BYTES
        && match text.split_once(';') {
            None => essence(text),
            Some((before, parameters)) => essence(before) && printable(parameters),
        }
}

/// Whether the value is a fingerprint of an environment.
pub(crate) fn fingerprint(value: &Value) -> bool {
    value.as_str().is_some_and(is_fingerprint)
}

/// Whether the text is `key:value` facts joined by `;`, sorted, each known key at most once.
#[must_use]
pub fn is_fingerprint(text: &str) -> bool {
    let printable =
        |value: &str| !value.is_empty() && value.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    let mut expected = ENVIRONMENT.iter();
    let known = text.split(';').all(|fact| {
        fact.split_once(':').is_some_and(|(key, value)| {
            printable(value)
                && expected
                    .by_ref()
                    .find(|(name, required)| *name == key || *required)
                    .is_some_and(|(name, _)| *name == key)
        })
    });
    known && expected.all(|(_, required)| !required)
}

/// Whether the text has at least one and at most `bytes` bytes and no control character.
pub(crate) fn is_line(text: &str, bytes: usize) -> bool {
    let refused = text.chars().any(char::is_control) || has_noncharacter(text);
    !text.is_empty() && text.len() <= bytes && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_has_the_known_facts_in_order() {
        for text in [
            "cpu:1;memory:2Gi;platform:amd64;runtime:python3.11",
            "cpu:1;gpu:a10;memory:2Gi;platform:arm64;runtime:python3;secrets:A,B",
        ] {
            assert!(is_fingerprint(text), "{text}");
        }
        for text in [
            "",
            "cpu:1",
            "cpu:1;memory:2Gi;platform:amd64",
            "memory:2Gi;platform:amd64;runtime:python3",
            "cpu:1;memory:2Gi;runtime:python3;platform:amd64",
            "cpu:1;cpu:1;memory:2Gi;platform:amd64;runtime:python3",
            "cpu:;memory:2Gi;platform:amd64;runtime:python3",
            "cpu:1;memory:2 Gi;platform:amd64;runtime:python3",
            "cpu:1;host:x;memory:2Gi;platform:amd64;runtime:python3",
            "cpu:1;memory:2Gi;platform:amd64;runtime:python3;",
            "cpu:1;memory:2Gi;platform:amd64;runtime:python3;gpu:1",
        ] {
            assert!(!is_fingerprint(text), "{text}");
        }
    }

    #[test]
    fn a_media_type_has_a_type_and_a_subtype() {
        for text in
            ["text/plain", "image/svg+xml", "text/plain; charset=utf-8", "application/x-a.b"]
        {
            assert!(is_mime(text), "{text}");
        }
        for text in
            ["", "text", "text/", "/plain", "text/plain;", "Text/plain", "text/plain;\u{e9}"]
        {
            assert!(!is_mime(text), "{text}");
        }
        assert!(is_mime(&format!("a/{}", "b".repeat(253))));
        assert!(!is_mime(&format!("a/{}", "b".repeat(254))));
    }

    #[test]
    fn an_oci_digest_keeps_its_algorithm() {
        assert!(is_oci(&format!("sha256:{}", "0a".repeat(32))));
        for text in [format!("b3:{}", "0a".repeat(32)), format!("sha256:{}", "0A".repeat(32))] {
            assert!(!is_oci(&text), "{text}");
        }
        assert!(!is_oci(&format!("sha256:{}", "0a".repeat(31))));
    }
}
