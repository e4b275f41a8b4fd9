//! Owns what a module is: its options, its documentation, and what it answers with.

use serde_json::{Map, Value, json};

use crate::Failure;
use crate::options::{Constraint, OptionSpec, Options, ReturnSpec, Values};

/// What `ansible-doc` shows of a module beside its options.
#[derive(Debug, Clone, Copy)]
pub struct Documentation {
    /// One line.
    pub short: &'static str,
    /// Paragraphs.
    pub description: &'static [&'static str],
    /// Notes.
    pub notes: &'static [&'static str],
    /// Modules to see as well, without the collection's name.
    pub see_also: &'static [&'static str],
    /// YAML tasks.
    pub examples: &'static str,
    /// The keys of the result.
    pub returns: &'static [ReturnSpec],
    /// How far `--diff` shows what changes: `full`, `partial` or `none`.
    pub diff_mode: &'static str,
    /// Whether the action plugin has to run for it on the controller.
    pub action_plugin: bool,
}

impl Documentation {
    /// That of a program that does not show it.
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
    /// Its name, that of crate, binary, documentation and tasks file.
    const NAME: &'static str;
    /// What `ansible-doc` shows.
    const DOCUMENTATION: Documentation;
    /// Whether bytes for the module may follow the arguments on standard input, after a line
    /// feed: they are left there for it.
    const READS_INPUT: bool = false;

    /// Does the work. Plans first; in check mode it ends there.
    ///
    /// # Errors
    /// The one thing that went wrong.
    fn run(options: Self::Options, context: &Context) -> Result<Outcome, Failure>;
}

/// How Ansible called the module.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Only say what would be done.
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

    /// For people, one line.
    #[must_use]
    pub fn msg(self, msg: impl Into<String>) -> Self {
        self.value("msg", msg.into())
    }

    /// A key of the result.
    #[must_use]
    pub fn value(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.values.insert(key.to_owned(), value.into());
        self
    }

    /// Something that a person should see although it worked.
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

    /// What `--diff` shows.
    #[must_use]
    pub fn diff(mut self, diff: Diff) -> Self {
        self.diff = Some(diff);
        self
    }

    /// Something else has changed as well, or not.
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

/// A module that only waits for how it was called.
pub(crate) type Ready = Box<dyn FnOnce(&Context) -> Result<Outcome, Failure>>;

/// What the protocol needs of a module, without its types: so what follows is in the program once, and not once
/// for each module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callee {
    pub name: &'static str,
    pub options: &'static [OptionSpec],
    pub constraints: &'static [Constraint],
    pub reads_input: bool,
    /// As [`Options::from_values`], with the module that is to have them.
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
