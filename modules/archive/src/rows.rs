//! Owns a table from hashes to numbers. It is smaller than a map, and does not change.

/// Numbers by 64 bits of a hash.
#[derive(Debug, Default)]
pub(crate) struct Rows(Vec<(u64, u32)>);

impl Rows {
    /// The rows may be in any order.
    pub(crate) fn new(mut rows: Vec<(u64, u32)>) -> Self {
        rows.sort_unstable();
        Self(rows)
    }

    /// The rows with this hash, in ascending order of their numbers.
    pub(crate) fn get(&self, key: u64) -> &[(u64, u32)] {
        let from = self.0.partition_point(|(hash, _)| *hash < key);
        let rest = self.0.get(from..).unwrap_or_default();
        let length = rest.iter().take_while(|(hash, _)| *hash == key).count();
        rest.get(..length).unwrap_or_default()
    }
}

/// The first bytes of a SHA-256, at most eight.
pub(crate) fn beginning(hash: &[u8], bytes: usize) -> u64 {
    hash.iter().take(bytes.min(8)).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_hash_are_found() {
        let rows = Rows::new(vec![(7, 2), (5, 0), (7, 1), (9, 3)]);
        assert_eq!(rows.get(7), [(7, 1), (7, 2)]);
        assert_eq!(rows.get(9), [(9, 3)]);
        assert!(rows.get(6).is_empty() && rows.get(10).is_empty());
        assert_eq!(beginning(&[1, 2, 3], 2), 0x102);
    }
}
