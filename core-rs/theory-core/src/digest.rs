//! Content digests: `b3:` and 64 lowercase hexadecimal digits of BLAKE3-256.

use std::io::Read;

use rayon::ThreadPoolBuilder;

use crate::error::{Code, Error, Result};

/// Label of the canonical form and the digest together.
pub const HASH_SCHEMA: &str = "rfc8785-blake3-v1";

/// Algorithm prefix of a written digest.
pub const PREFIX: &str = "b3:";

/// Bytes read at once by [`digest_reader`]; what fits in one chunk needs no threads.
const CHUNK_BYTES: usize = 4 << 20;

/// Digest of some bytes as it is written.
#[must_use]
pub fn digest(data: &[u8]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(data);
    hasher.digest()
}

/// The written form of 32 digest bytes.
#[must_use]
pub fn written(bytes: &[u8; 32]) -> String {
    format!("{PREFIX}{}", blake3::Hash::from(*bytes).to_hex())
}

/// The 32 bytes of a written digest.
///
/// # Errors
/// `ERR_INPUTS` for anything but `b3:` and 64 lowercase hexadecimal digits.
pub fn read(text: &str) -> Result<[u8; 32]> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix(PREFIX)
        .filter(|hex| hex.bytes().all(lower))
        .and_then(|hex| blake3::Hash::from_hex(hex).ok())
        .map(|hash| *hash.as_bytes())
        .ok_or_else(|| Error::new(Code::Inputs, "not a b3 digest"))
}

/// Digest of bytes that arrive in pieces.
#[derive(Debug, Clone, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes, on the calling thread.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The 32 bytes for what was added so far.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }

    /// The written digest for what was added so far.
    #[must_use]
    pub fn digest(&self) -> String {
        written(&self.bytes())
    }
}

/// Digest of everything a reader yields, with at most `threads` threads (none: one per processor).
///
/// The threads end with the call: a pool that outlives it would be missing after a fork.
///
/// # Errors
/// `ERR_STORAGE` when the reader fails or no threads can be had; `ERR_INPUTS` for zero threads.
pub fn digest_reader(reader: &mut (impl Read + Send), threads: Option<usize>) -> Result<String> {
    if threads == Some(0) {
        return Err(Error::new(Code::Inputs, "threads must be at least 1"));
    }
    let mut hasher = Hasher::new();
    let mut chunk = Vec::new();
    fill(reader, &mut chunk)?;
    hasher.update(&chunk);
    if chunk.len() < CHUNK_BYTES {
        return Ok(hasher.digest());
    }
    // Zero asks rayon for one thread per processor.
    let pool = ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
    let pool = pool.map_err(|_| Error::new(Code::Storage, "no threads to be had"))?;
    pool.install(|| {
        while !chunk.is_empty() {
            fill(reader, &mut chunk)?;
            hasher.0.update_rayon(&chunk);
        }
        Ok(hasher.digest())
    })
}

/// Reads the next chunk; shorter than [`CHUNK_BYTES`] only at the end.
fn fill(reader: &mut impl Read, chunk: &mut Vec<u8>) -> Result<()> {
    chunk.clear();
    let limit = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
    match reader.take(limit).read_to_end(chunk) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(Code::Storage, "bytes cannot be read")),
    }
}
