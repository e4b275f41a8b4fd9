//! Owns sets of entry numbers and their text form, for example `3-7,9`.

use std::fmt;
use std::str::FromStr;

use crate::manifest::MOST_ENTRIES;

/// Ranges, in ascending order and without overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers(Vec<(u32, u32)>);

impl Numbers {
    /// Whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All numbers.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The numbers of both sets.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut all: Vec<u32> = self.iter().chain(other.iter()).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().collect()
    }
}

impl FromIterator<u32> for Numbers {
    /// The numbers must be in ascending order.
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        Self(ranges)
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Numbers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "these are no ascending numbers".to_owned();
        let (mut ranges, mut count) = (Vec::<(u32, u32)>::new(), 0u32);
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: u32 = first.parse().map_err(|_| wrong())?;
            let last = last.parse().map_err(|_| wrong())?;
            count = count.saturating_add(u32::saturating_sub(last, first)).saturating_add(1);
            if count > MOST_ENTRIES
                || first > last
                || ranges.last().is_some_and(|(_, before)| *before >= first)
            {
                return Err(wrong());
            }
            ranges.push((first, last));
        }
        Ok(Self(ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_are_the_same() {
        for text in ["", "0", "3-7,9", "0-1999999", "1-2,4294967295"] {
            assert_eq!(text.parse::<Numbers>().unwrap().to_string(), text);
        }
        for wrong in ["x", "7-3", "3,3", "5-9,8", "4294967296", "1--2", "0-2000000"] {
            assert!(wrong.parse::<Numbers>().is_err(), "{wrong}");
        }
        let numbers: Numbers = [1, 2, 3, 7].into_iter().collect();
        assert_eq!(numbers.with(&"3-5".parse().unwrap()).to_string(), "1-5,7");
    }
}
