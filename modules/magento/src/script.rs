//! The PHP scripts of `php/`, as build.rs packs them.

use flate2::{Decompress, FlushDecompress};

pub(crate) const PENDING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pending"));
pub(crate) const CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/code"));
pub(crate) const ONLINE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/online"));

/// The script as PHP reads it. It is less than this, or build.rs fails.
pub(crate) fn unpacked(packed: &[u8]) -> String {
    let mut text = Vec::with_capacity(1 << 15);
    let unpacked =
        Decompress::new(false).decompress_vec(packed, &mut text, FlushDecompress::Finish);
    debug_assert!(unpacked.is_ok(), "it was packed by us");
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_are_whole() {
        assert!(unpacked(PENDING).starts_with("use Magento") && unpacked(PENDING).ends_with(";"));
        assert!(unpacked(CODE).starts_with("use Magento") && unpacked(CODE).ends_with(";"));
        assert!(unpacked(ONLINE).ends_with("run());"), "{}", unpacked(ONLINE));
    }
}
