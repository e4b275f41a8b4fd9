//! Defines what a module is: its options, its documentation and its results.

use serde_json::{Map, Value, json};

use crate::Failure;
use crate::options::{Constraint, OptionSpec, Options, ReturnSpec, Values};

/// The documentation of a module, except its options.
#[derive(Debug, Clone, Copy)]
pub struct Documentation {
    /// One line.
    pub short: &'static str,
    /// Paragraphs.
    pub description: &'static [&'static str],
    /// Notes.
    pub notes: &'static [&'static str],
    /// Related modules, without the collection's name.
    pub see_also: &'static [&'static str],
    /// YAML tasks.
    pub examples: &'static str,
    /// The keys of the result.
    pub returns: &'static [ReturnSpec],
    /// How far `--diff` shows what changes: `full`, `partial` or `none`.
    pub diff_mode: &'static str,
    /// Whether it needs the action plugin on the controller.
    pub action_plugin: bool,
}

impl Documentation {
    /// For a program built without documentation.
    pub(crate) const NONE: Self = Self {
        short: "",
        description: &[],
        notes: &[],
        see_also: &[],
        examples: "",
        returns: &[],
        diff_mode: "",
        action_plugin: false,
    };
}

/// A module.
pub trait Module {
    /// Its options, declared with [`crate::options!`].
    type Options: Options + 'static;
    /// Its name, which is also that of the crate, binary, documentation and tasks file.
    const NAME: &'static str;
    /// What `ansible-doc` shows.
    const DOCUMENTATION: Documentation;
    /// Whether data for the module may follow the arguments on standard input, after a line feed.
    const READS_INPUT: bool = false;

    /// Does the work: plans, then applies. In check mode it only plans.
    ///
    /// # Errors
    /// The one thing that went wrong.
    fn run(options: Self::Options, context: &Context) -> Result<Outcome, Failure>;
}

/// How Ansible called the module.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Report only what would be done.
    pub check_mode: bool,
    /// Show what changes.
    pub diff: bool,
}

/// What changes, as `--diff` shows it.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    /// The name above the old state.
    pub header: String,
    /// Line by line, how it was.
    pub before: Vec<String>,
    /// Line by line, how it is or would be.
    pub after: Vec<String>,
}

/// What a module did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    changed: bool,
    values: Map<String, Value>,
    warnings: Vec<String>,
    diff: Option<Diff>,
}

impl Outcome {
    /// An outcome; `changed`: whether anything is, or in check mode would be, different.
    pub fn new(changed: bool) -> Self {
        Self { changed, ..Self::default() }
    }

    /// The message for people, one line.
    #[must_use]
    pub fn msg(self, msg: impl Into<String>) -> Self {
        self.value("msg", msg.into())
    }

    /// Adds a key to the result.
    #[must_use]
    pub fn value(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.values.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a warning: something that people should see although the module succeeded.
    #[must_use]
    pub fn warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// [`Self::warning`] for each.
    #[must_use]
    pub fn warnings(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// Sets what `--diff` shows.
    #[must_use]
    pub fn diff(mut self, diff: Diff) -> Self {
        self.diff = Some(diff);
        self
    }

    /// Marks it changed if something else has changed as well.
    #[must_use]
    pub fn or_changed(mut self, changed: bool) -> Self {
        self.changed |= changed;
        self
    }

    /// Whether anything changed.
    pub fn changed(&self) -> bool {
        self.changed
    }

    pub(crate) fn into_result(self, context: &Context) -> Map<String, Value> {
        let mut result = self.values;
        result.insert("changed".into(), self.changed.into());
        if !self.warnings.is_empty() {
            result.insert("warnings".into(), self.warnings.into());
        }
        if let (true, Some(diff)) = (context.diff, self.diff) {
            let text = |lines: Vec<String>| {
                lines.into_iter().fold(String::new(), |text, line| text + &line + "\n")
            };
            result.insert(
                "diff".into(),
                json!({
                    "before_header": diff.header,
                    "after_header": diff.header,
                    "before": text(diff.before),
                    "after": text(diff.after),
                }),
            );
        }
        result
    }
}

/// A module with its options, ready to run.
pub(crate) type Ready = Box<dyn FnOnce(&Context) -> Result<Outcome, Failure>>;

/// What the protocol needs of a module, without its types, so that the code of the protocol is in
/// the program only once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callee {
    pub name: &'static str,
    pub options: &'static [OptionSpec],
    pub constraints: &'static [Constraint],
    pub reads_input: bool,
    /// Builds the options by [`Options::from_values`] and returns the module, ready to run.
    pub prepare: fn(Values, &mut Vec<String>) -> Option<Ready>,
}

impl Callee {
    pub const fn of<M: Module>() -> Self {
        Self {
            name: M::NAME,
            options: <M::Options as Options>::SPECS,
            constraints: <M::Options as Options>::CONSTRAINTS,
            reads_input: M::READS_INPUT,
            prepare: |values, problems| {
                let options = <M::Options as Options>::from_values(values, problems)?;
                Some(Box::new(move |context| M::run(options, context)))
            },
        }
    }

    pub fn option(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|spec| spec.name == name)
    }
}
