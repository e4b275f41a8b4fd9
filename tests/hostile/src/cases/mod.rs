//! The table, in groups.

mod amounts;
mod kinds;
mod links;
mod names;
mod pax;
mod sizes;
mod sparse;
mod streams;
mod zips;

use crate::Case;

/// All groups by name.
pub static ALL: &[(&str, &[Case])] = &[
    ("names", names::CASES),
    ("links", links::CASES),
    ("kinds", kinds::CASES),
    ("sizes", sizes::CASES),
    ("pax", pax::CASES),
    ("sparse", sparse::CASES),
    ("streams", streams::CASES),
    ("zips", zips::CASES),
    ("amounts", amounts::CASES),
];
