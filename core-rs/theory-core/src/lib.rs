//! Theory's byte rules as pure functions: what two strangers must compute alike.
//!
//! Nothing here knows Python, opens a file or reads a clock. Every refusal is an [`error::Error`]
//! with a stable code; no input makes a function panic.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod chain;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod event;
pub mod facts;
pub mod frames;
pub mod ids;
pub mod json;
pub mod laws;
pub mod limits;
pub mod number;
pub mod outputs;
pub mod path;
pub mod protocol;
pub mod selector;
mod shape;
pub mod template;
pub mod unicode;
pub mod verify;

pub use error::{Code, Detail, Error, Result};
