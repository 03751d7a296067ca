//! Outputs of one write: canonical paths under a prefix, no two of which stand in each other's way.

use std::borrow::Borrow;

use crate::error::{Code, Error, Result};
use crate::path::WorldPath;
use crate::selector::{Kind, Selector};

/// Canonical paths of relative outputs (UTF-8) under a write prefix, in the order given.
///
/// # Errors
/// The codes of [`WorldPath::join`]; `ERR_SELECTOR_KIND_MISMATCH` for an output with a trailing
/// slash;
/// `ERR_OUTPUT_DUPLICATE` as [`check_outputs`]. `detail.index` is the output's place in the list.
pub fn resolve_outputs<T: AsRef<[u8]>>(prefix: &WorldPath, rels: &[T]) -> Result<Vec<WorldPath>> {
    let mut paths = Vec::with_capacity(rels.len());
    for (index, rel) in rels.iter().enumerate() {
        let path =
            prefix.join_bytes(rel.as_ref()).and_then(|path| Selector::new(Kind::Exact, path));
        paths.push(path.map_err(|error| error.with("index", index))?.path().clone());
    }
    check_outputs(&paths)?;
    Ok(paths)
}

/// Refuses outputs of which two are equal or one is a proper ancestor of another.
///
/// # Errors
/// `ERR_OUTPUT_DUPLICATE`; `detail.index` and `detail.other` are places in the list.
pub fn check_outputs<T: Borrow<WorldPath>>(paths: &[T]) -> Result<()> {
    let mut order: Vec<usize> = (0..paths.len()).collect();
    let key = |index: &usize| {
        let path: &WorldPath = paths[*index].borrow();
        (path.root(), path.facet(), path.segments(), *index)
    };
    order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    // A path sorts right before everything below it, so neighbours suffice.
    let clash = |pair: &&[usize]| paths[pair[1]].borrow().starts_with(paths[pair[0]].borrow());
    match order.windows(2).find(clash) {
        None => Ok(()),
        Some(pair) => {
            let message = "duplicate output after canonicalization";
            let error = Error::new(Code::OutputDuplicate, message);
            Err(error.with("index", pair[0].max(pair[1])).with("other", pair[0].min(pair[1])))
        }
    }
}
