//! Leases of a plan: who may write where, so that nobody overlaps.

use std::collections::BTreeMap;

use super::Law;

/// Every path that is leased, without its trailing slash, and by how many selectors of its attempt.
///
/// Two selectors overlap if their paths are equal, or one is a prefix whose segments begin the
/// other's (spec: WorldPath, overlap).
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<String, Held>);

#[derive(Debug, Default)]
struct Held {
    exact: usize,
    prefix: usize,
}

impl Leases {
    /// Takes the canonical paths of an attempt, if none overlaps what others hold.
    pub fn acquire(&mut self, paths: &[String]) -> Result<(), Law> {
        if paths.iter().any(|path| self.overlaps(path)) {
            return Err(Law::LeaseOverlap);
        }
        for path in paths {
            let held = self.0.entry(base(path).to_owned()).or_default();
            let count = if path.ends_with('/') { &mut held.prefix } else { &mut held.exact };
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    /// Gives the paths of an attempt back.
    pub fn release(&mut self, paths: &[String]) {
        for path in paths {
            if let Some(held) = self.0.get_mut(base(path)) {
                let count = if path.ends_with('/') { &mut held.prefix } else { &mut held.exact };
                *count = count.saturating_sub(1);
                if held.exact == 0 && held.prefix == 0 {
                    self.0.remove(base(path));
                }
            }
        }
    }

    /// Whether somebody holds a path, or what is below or above it.
    pub fn overlaps(&self, path: &str) -> bool {
        let own = base(path);
        let above = own.match_indices('/').filter_map(|(end, _)| own.get(..end));
        let inside = above.filter_map(|path| self.0.get(path)).any(|held| held.prefix > 0);
        let below = format!("{own}/");
        let around = path.ends_with('/')
            && self.0.range(below.clone()..).next().is_some_and(|(it, _)| it.starts_with(&below));
        self.0.contains_key(own) || inside || around
    }
}

fn base(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::{Law, Leases};

    fn held(paths: &[&str]) -> Leases {
        let mut leases = Leases::default();
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(leases.acquire(&paths), Ok(()));
        leases
    }

    #[test]
    fn overlap_goes_by_segments() {
        for (held_path, asked, overlaps) in [
            ("/artifacts/a/", "/artifacts/a/", true),
            ("/artifacts/a/", "/artifacts/a", true),
            ("/artifacts/a", "/artifacts/a/", true),
            ("/artifacts/a/", "/artifacts/a/b", true),
            ("/artifacts/a/b/c", "/artifacts/a/", true),
            ("/artifacts/", "/artifacts/a", true),
            ("/artifacts/a", "/artifacts/a/b", false),
            ("/artifacts/a/b", "/artifacts/a", false),
            ("/artifacts/foo/", "/artifacts/foobar", false),
            ("/artifacts/foo.x", "/artifacts/foo/", false),
            ("/artifacts/a/", "/streams/a/", false),
        ] {
            let found = held(&[held_path]).acquire(&[asked.to_owned()]);
            assert_eq!(found == Err(Law::LeaseOverlap), overlaps, "{held_path} {asked}");
        }
    }

    #[test]
    fn what_is_released_is_free() {
        let paths = ["/artifacts/a/".to_owned(), "/artifacts/a/b".to_owned()];
        let mut leases = Leases::default();
        assert_eq!(leases.acquire(&paths), Ok(()));
        leases.release(&paths);
        assert_eq!(leases.acquire(&paths), Ok(()));
    }
}
