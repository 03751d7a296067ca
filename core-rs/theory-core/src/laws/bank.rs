//! The bank of a plan: what is limited, held and spent, at every prefix.

use super::Law;
use super::amounts::{Amounts, MOST, places, sum};

/// Balances of one plan.
///
/// Law: per dimension `reserved >= 0`, `spent >= 0`, and an admission keeps
/// `spent + reserved + ask <= limit`.
#[derive(Debug, Default)]
pub(super) struct Bank {
    /// The most that may be spent, dimension by dimension.
    pub limit: Amounts,
    reserved: Amounts,
    spent: Amounts,
    /// Whether usage passed a hold and nobody raised the limit since.
    pub breached: bool,
}

/// Where an actual amount comes from, dimension by dimension; true where it is the hold.
pub(super) type Basis = [Option<bool>; 7];

impl Bank {
    /// The balances of a plan with these limits.
    pub fn new(limit: Amounts) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Takes an ask out of the headroom.
    pub fn reserve(&mut self, ask: &Amounts) -> Result<(), Law> {
        let reserved = self.reserved.plus(ask).ok_or(Law::BudgetSum)?;
        for place in places().filter(|place| ask.stated(*place).is_some()) {
            let taken = sum(self.spent.amount(place), reserved.amount(place));
            let most = self.limit.stated(place).unwrap_or(MOST);
            if taken.is_none_or(|taken| taken > most) {
                return Err(Law::BudgetLimit);
            }
        }
        self.reserved = reserved;
        Ok(())
    }

    /// Whether an ask cannot fit even when every hold returns unspent.
    pub fn is_hopeless(&self, ask: &Amounts) -> bool {
        places().any(|place| {
            let most = self.limit.stated(place).unwrap_or(MOST);
            let taken = sum(self.spent.amount(place), ask.amount(place));
            ask.stated(place).is_some() && taken.is_none_or(|taken| taken > most)
        })
    }

    /// Gives a hold back and books the usage; answers what was used beyond the hold.
    pub fn settle(
        &mut self,
        hold: &Amounts,
        actual: &Amounts,
        basis: Basis,
    ) -> Result<Option<Amounts>, Law> {
        self.void(hold)?;
        self.spent = self.spent.plus(actual).ok_or(Law::BudgetSum)?;
        for (place, basis) in basis.iter().enumerate() {
            let used = actual.stated(place);
            // What would pass the largest sum is booked up to it.
            let full = self.spent.amount(place) == MOST;
            let known = match basis {
                None => used.is_none() && hold.amount(place) == 0,
                Some(true) => used.is_some_and(|used| used == hold.amount(place) || full),
                Some(false) => used.is_some(),
            };
            if !known {
                return Err(Law::BudgetBasis);
            }
        }
        let excess = Amounts::of(|place| {
            let bound = hold.stated(place).or(self.limit.stated(place)).is_some();
            let over = actual.amount(place).checked_sub(hold.amount(place));
            Some(over.filter(|over| bound && *over > 0))
        });
        Ok(excess.filter(|excess| !excess.is_zero()))
    }

    /// What a settled hold leaves: of what is limited and not held, nothing.
    pub fn left(&self, hold: &Amounts, actual: &Amounts) -> Amounts {
        let rest = |place| {
            let bound = hold.stated(place).or(self.limit.stated(place));
            let rest = hold.amount(place).saturating_sub(actual.amount(place));
            Some(bound.map(|_| rest))
        };
        Amounts::of(rest).unwrap_or_default()
    }

    /// Gives a hold back.
    pub fn void(&mut self, hold: &Amounts) -> Result<(), Law> {
        self.reserved = self.reserved.minus(hold).ok_or(Law::BudgetHold)?;
        Ok(())
    }

    /// Raises limits.
    pub fn top_up(&mut self, amount: &Amounts, limit: &Amounts) -> Result<(), Law> {
        let raised = self.limit.plus(amount).ok_or(Law::BudgetSum)?;
        // A limit where there was none would lower what is allowed.
        let is_limited = places()
            .all(|place| amount.stated(place).is_none() || self.limit.stated(place).is_some());
        if !is_limited || amount.is_zero() || raised != *limit {
            return Err(Law::BudgetTopUp);
        }
        self.limit = raised;
        self.breached = false;
        Ok(())
    }

    /// Whether exactly this is spent.
    pub fn has_spent(&self, spent: &Amounts) -> bool {
        self.spent.equals(spent)
    }
}
