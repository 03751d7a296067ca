//! How many cases a generated test runs: few by default, 100,000 each at night.

/// The environment's `PROPTEST_CASES`, else `usual`.
pub fn count(usual: u32) -> u32 {
    match std::env::var("PROPTEST_CASES") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("PROPTEST_CASES is no number: {text}")),
        Err(_) => usual,
    }
}
