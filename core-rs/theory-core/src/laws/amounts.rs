//! Amounts by budget dimension, in whole numbers that never leave ±(2^53 - 1).

use crate::facts::DIMENSIONS;
use crate::json::Value;
use crate::number::MAX_SAFE_INTEGER;

/// The largest amount and the largest sum.
pub(super) const MOST: u64 = MAX_SAFE_INTEGER.unsigned_abs();

const COUNT: usize = DIMENSIONS.len();

/// A vector of a ledger: what it names, and nothing for what it does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amounts([Option<u64>; COUNT]);

impl Amounts {
    /// The vector of a JSON object; none if it is no vector.
    pub fn read(value: &Value) -> Option<Self> {
        let mut read = Self::default();
        for (name, amount) in value.as_object()? {
            let amount = amount.as_int().and_then(|amount| u64::try_from(amount).ok());
            let place = DIMENSIONS.iter().position(|dimension| dimension == name)?;
            *read.0.get_mut(place)? = Some(amount.filter(|amount| *amount <= MOST)?);
        }
        Some(read)
    }

    /// The vector of what `amount` gives for each dimension; none as soon as it refuses one.
    pub fn of(mut amount: impl FnMut(usize) -> Option<Option<u64>>) -> Option<Self> {
        let mut made = Self::default();
        for (place, slot) in made.0.iter_mut().enumerate() {
            *slot = amount(place)?;
        }
        Some(made)
    }

    /// What the vector states for a dimension.
    pub fn stated(&self, place: usize) -> Option<u64> {
        self.0.get(place).copied().flatten()
    }

    /// The amount of a dimension; zero where none is stated.
    pub fn amount(&self, place: usize) -> u64 {
        self.stated(place).unwrap_or_default()
    }

    /// Whether both are the same amounts, stated or not.
    pub fn equals(&self, other: &Self) -> bool {
        places().all(|place| self.amount(place) == other.amount(place))
    }

    /// Whether no dimension has an amount.
    pub fn is_zero(&self) -> bool {
        self.equals(&Self::default())
    }

    /// The sum; none beyond the largest.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        Self::of(|place| match (self.stated(place), other.stated(place)) {
            (None, None) => Some(None),
            _ => sum(self.amount(place), other.amount(place)).map(Some),
        })
    }

    /// The difference; none below zero.
    pub fn minus(&self, other: &Self) -> Option<Self> {
        Self::of(|place| match (self.stated(place), other.stated(place)) {
            (None, None) => Some(None),
            _ => self.amount(place).checked_sub(other.amount(place)).map(Some),
        })
    }

    /// What an ask leaves of what is stated; none below zero. It bounds nothing else.
    pub fn less(&self, ask: &Self) -> Option<Self> {
        Self::of(|place| match self.stated(place) {
            None => Some(None),
            Some(rest) => rest.checked_sub(ask.amount(place)).map(Some),
        })
    }
}

/// Every dimension's place in a vector.
pub(super) fn places() -> std::ops::Range<usize> {
    0..COUNT
}

/// A sum that every reader of JSON agrees on.
pub(super) fn sum(a: u64, b: u64) -> Option<u64> {
    a.checked_add(b).filter(|sum| *sum <= MOST)
}
