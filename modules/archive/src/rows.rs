//! Owns a table from hashes to numbers. It is smaller than a map, and does not change.

/// Numbers by 64 bits of a hash.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Sorted.
    rows: Vec<(u64, u32)>,
    /// Where the rows begin whose hashes have the same first `bits`, and where the last of them end. A search
    /// in all rows would mostly wait for memory.
    starts: Vec<u32>,
    bits: u32,
}

impl Rows {
    /// How many rows have the same first bits, if the hashes are evenly distributed.
    const TOGETHER: usize = 4;

    /// The rows may be in any order.
    pub(crate) fn new(mut rows: Vec<(u64, u32)>) -> Self {
        rows.sort_unstable();
        let bits = (rows.len() / Self::TOGETHER).max(1).ilog2();
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (row, number) in rows.iter().zip(0..) {
            while starts.len() <= first(row.0, bits) {
                starts.push(number);
            }
        }
        starts.resize((1 << bits) + 1, rows.len() as u32);
        Self { rows, starts, bits }
    }

    /// The rows with this hash, in ascending order of their numbers.
    pub(crate) fn get(&self, key: u64) -> &[(u64, u32)] {
        let bucket = first(key, self.bits);
        let bounds = self.starts.get(bucket..bucket + 2).unwrap_or(&[0, 0]);
        let rows = self.rows.get(bounds[0] as usize..bounds[1] as usize).unwrap_or_default();
        let from = rows.partition_point(|(hash, _)| *hash < key);
        let rest = rows.get(from..).unwrap_or_default();
        let length = rest.iter().take_while(|(hash, _)| *hash == key).count();
        rest.get(..length).unwrap_or_default()
    }
}

fn first(key: u64, bits: u32) -> usize {
    key.checked_shr(u64::BITS - bits).unwrap_or_default() as usize
}

/// The first bytes of a SHA-256, at most eight, as the first of a number: there they are evenly distributed.
pub(crate) fn beginning(hash: &[u8], bytes: usize) -> u64 {
    let mut first = [0; 8];
    for (place, byte) in first.iter_mut().zip(hash.iter().take(bytes)) {
        *place = *byte;
    }
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn all_of_a_hash_are_found() {
        let rows = Rows::new(vec![(7, 2), (5, 0), (7, 1), (9, 3)]);
        assert_eq!(rows.get(7), [(7, 1), (7, 2)]);
        assert_eq!(rows.get(9), [(9, 3)]);
        assert!(rows.get(6).is_empty() && rows.get(10).is_empty());
        assert_eq!(beginning(&[1, 2, 3], 2), 0x102 << 48);
    }

    proptest! {
        #[test]
        fn any_number_of_any_hashes_is_found(
            keys in vec(prop_oneof![0..4u64, any::<u64>(), (0..4u64).prop_map(|key| key << 61)], 0..200),
            other in any::<u64>(),
        ) {
            let rows = Rows::new(keys.iter().copied().zip(0..).collect());
            for key in keys.iter().copied().chain([0, other, u64::MAX]) {
                let all = keys.iter().copied().zip(0..).filter(|row| row.0 == key);
                prop_assert_eq!(rows.get(key), all.collect::<Vec<_>>());
            }
        }
    }
}
