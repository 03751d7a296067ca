//! Execution ids: one name for one attempt, computed alike by everybody.

use crate::digest;
use crate::error::{Code, Error, Result};
use crate::json::{Value, canonical};
use crate::path::{PlanAddress, is_name};

/// Most attempts that one transition may have.
pub const ATTEMPTS: i64 = 1000;

/// Hexadecimal digits of the digest that an execution id keeps.
const HEX_DIGITS: usize = 32;

/// The execution id of an attempt (spec: plans, execution id): `x` and 32 hexadecimal digits.
///
/// # Errors
/// `ERR_INPUTS` for a plan that is not `/world/{tenant}/{plan}` in canonical form, a transition
/// that is no id, or an attempt outside 1..=1000; `detail.member` names which.
pub fn execution_id(plan: &str, transition: &str, attempt: i64) -> Result<String> {
    let refused = |member: &'static str| {
        Error::new(Code::Inputs, format!("invalid {member}")).with("member", member)
    };
    check_plan(plan).map_err(|_| refused("plan"))?;
    if !is_name(transition) {
        return Err(refused("transition"));
    }
    if !(1..=ATTEMPTS).contains(&attempt) {
        return Err(refused("attempt"));
    }
    let name = Value::Object(vec![
        ("attempt".to_owned(), Value::Int(attempt)),
        ("plan".to_owned(), Value::Str(plan.to_owned())),
        ("transition".to_owned(), Value::Str(transition.to_owned())),
    ]);
    let written = digest::digest(&canonical(&name));
    Ok(format!("x{}", &written[digest::PREFIX.len()..][..HEX_DIGITS]))
}

/// Refuses a text that is not the canonical address of a plan.
///
/// # Errors
/// `ERR_PATH_SYNTAX`, `ERR_PATH_TOO_LONG`.
pub fn check_plan(text: &str) -> Result<()> {
    if PlanAddress::parse(text)?.to_string() == text {
        return Ok(());
    }
    Err(Error::new(Code::PathSyntax, "not the canonical address of a plan"))
}
