//! The one table of limits (spec: limits); every cap in the project reads it from here.

/// Deepest nesting of a JSON value; a scalar has depth 0.
pub const JSON_DEPTH: usize = 256;
/// Longest WorldPath in bytes, raw and canonical.
pub const PATH_BYTES: usize = 1024;
/// Longest segment of a WorldPath in bytes, canonical.
pub const SEGMENT_BYTES: usize = 255;
/// Largest frame of `theory.run.v1` in bytes.
pub const FRAME_BYTES: usize = 8 << 20;
/// Longest tail of a processor's stderr in an error envelope, in bytes.
pub const STDERR_TAIL_BYTES: usize = 2 << 10;
/// Largest event in bytes; what is larger goes into an artifact.
pub const JSON_IN_TRUTH_BYTES: usize = 256 << 10;
/// Longest line of a log or trace in bytes, also the longest message of a frame.
pub const LINE_BYTES: usize = 64 << 10;
/// Deepest nesting of a document of the API, the registry or a processor.
pub const DOCUMENT_DEPTH: usize = 64;
/// Largest output in bytes.
pub const OUTPUT_BYTES: u64 = 64 << 30;
/// Most outputs of one execution.
pub const OUTPUTS_PER_EXECUTION: usize = 100_000;

/// Name and value of every limit; names end in their unit.
pub const LIMITS: [(&str, u64); 15] = [
    ("document_depth", DOCUMENT_DEPTH as u64),
    ("frame_bytes", FRAME_BYTES as u64),
    ("headers_bytes", 16 << 10),
    ("integer_max", crate::number::MAX_SAFE_INTEGER.unsigned_abs()),
    ("json_depth", JSON_DEPTH as u64),
    ("json_in_truth_bytes", JSON_IN_TRUTH_BYTES as u64),
    ("line_bytes", LINE_BYTES as u64),
    ("output_bytes", OUTPUT_BYTES),
    ("outputs_per_execution", OUTPUTS_PER_EXECUTION as u64),
    ("page_items", 1_000),
    ("path_bytes", PATH_BYTES as u64),
    ("request_body_bytes", 8 << 20),
    ("segment_bytes", SEGMENT_BYTES as u64),
    ("stderr_tail_bytes", STDERR_TAIL_BYTES as u64),
    ("transitions_per_plan", 100_000),
];
