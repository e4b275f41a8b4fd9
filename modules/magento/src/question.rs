//! The two questions that Magento answers about its state, and the words of its answers.

/// A command that asks, and the words of its answers, in 2.4.7 and in its source since 2.3.
pub(crate) struct Question {
    pub(crate) command: &'static str,
    pub(crate) up_to_date: &'static str,
    pub(crate) needed: &'static str,
    pub(crate) needed_word: &'static str,
}

pub(crate) const DATABASE: Question = Question {
    command: "setup:db:status",
    up_to_date: "All modules are up to date.",
    needed: "Run 'setup:upgrade'",
    needed_word: "upgrade_needed",
};
pub(crate) const CONFIGURATION: Question = Question {
    command: "app:config:status",
    up_to_date: "Config files are up to date.",
    needed: "Config files have changed.",
    needed_word: "import_needed",
};

/// The words that identify an answer. A secret that equals one of them is not masked.
pub(crate) const WORDS: [&str; 4] =
    [DATABASE.up_to_date, DATABASE.needed, CONFIGURATION.up_to_date, CONFIGURATION.needed];
