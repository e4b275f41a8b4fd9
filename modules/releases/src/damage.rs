//! Lines of the history that cannot be read.

/// The unreadable lines: damaged, truncated, or written by a newer Oxistrano. Each may have been
/// any event, so nothing is removed because an event is missing.
#[derive(Debug, Default, Clone)]
pub struct Damage {
    pub(crate) count: usize,
    /// The numbers of the first of them.
    first: Vec<usize>,
    pub(crate) last: usize,
}

/// How many line numbers a message names.
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
