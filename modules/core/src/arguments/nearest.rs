//! Owns what is said of an option that does not exist: the name that was probably meant.

use crate::module::Callee;

/// The problem with an unknown option.
pub(super) fn unsupported(module: &Callee, name: &str) -> String {
    // Options that only the action plugin sets are not suggested.
    let specs = || module.options.iter().filter(|spec| !spec.internal);
    let names = || specs().flat_map(|spec| [&spec.name].into_iter().chain(spec.aliases).copied());
    // Of two equally near names, prefer the one of which a letter is missing.
    let nearest = names()
        .map(|known| (distance(name, known), !is_part(name, known), known))
        .min()
        .filter(|(distance, _, known)| *distance * 2 <= known.len())
        .map(|(.., known)| known);
    // `paths` more likely means `shared_paths` than `path`, if no other name ends so.
    let mut longer = specs()
        .map(|spec| spec.name)
        .filter(|known| known.strip_suffix(name).is_some_and(|before| before.ends_with('_')));
    let nearest = longer.next().filter(|_| longer.next().is_none()).or(nearest);
    let mut known: Vec<_> = specs().map(|spec| spec.name).collect();
    known.sort_unstable();
    match nearest {
        Some(nearest) => format!("there is no option {name} (did you mean {nearest}?)"),
        None => format!("there is no option {name} (there are: {})", known.join(", ")),
    }
}

/// Whether a name is another one with letters left out.
fn is_part(name: &str, known: &str) -> bool {
    let mut known = known.chars();
    name.chars().all(|letter| known.any(|other| other == letter))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
