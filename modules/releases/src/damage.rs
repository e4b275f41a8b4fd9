//! Lines of the history that cannot be read.

/// The lines that are no event: damaged, cut off, or written by a newer Oxistrano. What they have
/// said is not known, so nothing is removed because it seems not to have happened.
#[derive(Debug, Default, Clone)]
pub struct Damage {
    pub(crate) count: usize,
    /// The numbers of the first of them.
    first: Vec<usize>,
    pub(crate) last: usize,
}

/// So many numbers of damaged lines are named.
const NAMED: usize = 5;

impl Damage {
    pub(crate) fn add(&mut self, line: usize) {
        (self.count, self.last) = (self.count + 1, line);
        if self.first.len() < NAMED {
            self.first.push(line);
        }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.count > 0
    }

    /// Which lines, for people: `line 3`, `lines 3, 4 and 7 more`.
    pub fn lines(&self) -> String {
        let named: Vec<_> = self.first.iter().map(ToString::to_string).collect();
        let word = if self.count == 1 { "line" } else { "lines" };
        let more = match self.count - self.first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{word} {}{more}", named.join(", "))
    }
}
