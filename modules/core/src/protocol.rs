//! Ansible's binary-module protocol: arguments as JSON in the file named by `argv[1]`
//! (`-`: standard input), one JSON object on standard output, always.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{BufRead, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use crate::convert::{convert, show};
use crate::mask::{HIDDEN_PARAMETER, Mask};
use crate::options::{Constraint, OptionSpec, Options, ReturnSpec, Values};
use crate::{Failure, input, interrupt};

/// A longer argument is not shown to its end.
const LONGEST_SHOWN: usize = 64 << 10;
/// The key of a result by which ansible-core 2.22 and later learn what to mask.
const NEW_SECRETS: &str = "_ansible_new_secrets";

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

    fn into_result(self, context: &Context) -> Map<String, Value> {
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
type Ready = Box<dyn FnOnce(&Context) -> Result<Outcome, Failure>>;

/// What the protocol needs of a module, without its types: so what follows is in the program once, and not once
/// for each module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callee {
    pub name: &'static str,
    pub options: &'static [OptionSpec],
    constraints: &'static [Constraint],
    reads_input: bool,
    /// As [`Options::from_values`], with the module that is to have them.
    prepare: fn(Values, &mut Vec<String>) -> Option<Ready>,
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

    fn option(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|spec| spec.name == name)
    }
}

/// Runs a module: `argument` is the file with its arguments, or `-` for standard input.
pub(crate) fn main(module: &Callee, argument: Option<&OsStr>) -> ExitCode {
    interrupt::install();
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    // Nothing on stderr: a connection with a terminal merges it into the JSON.
    panic::set_hook(Box::new(|info| {
        if let Ok(mut first) = PANIC.lock() {
            first.get_or_insert_with(|| info.to_string());
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(|| match argument {
        Some(argument) => {
            read_arguments(argument, module.reads_input).map(|given| execute(module, given))
        }
        None => Err(Failure::new("usage", format!("{} is a module for Ansible", module.name))
            .remedy("give it a file with its arguments as JSON, or - for standard input")),
    }));
    let result = match result {
        Ok(Ok(result)) => result,
        Ok(Err(failure)) => failure.into_result(),
        Err(_) => {
            let cause = PANIC.lock().ok().and_then(|mut cause| cause.take()).unwrap_or_default();
            Failure::new("panic", format!("{} has a defect and stopped", module.name))
                .cause(cause)
                .remedy("please report this message")
                .into_result()
        }
    };
    let mut result = result;
    let secrets = result.remove(NEW_SECRETS);
    // What has not come through `execute` has not been masked.
    let mut result = match Mask::default().apply(Value::Object(result)) {
        Value::Object(result) => crate::show::result(result),
        _ => Map::new(),
    };
    result.extend(secrets.map(|secrets| (NEW_SECRETS.to_owned(), secrets)));
    if module.reads_input && argument.is_some_and(|argument| argument == "-") {
        // Who is still sending must not find the pipe closed, or the result is not read.
        let _ = std::io::copy(&mut *input::lock(), &mut std::io::sink());
    }
    print(result)
}

/// Prints a failure as a module does, where it is not known which module is meant.
pub fn refuse(failure: Failure) -> ExitCode {
    print(crate::show::result(failure.into_result()))
}

fn print(result: Map<String, Value>) -> ExitCode {
    let failed = result.get("failed") == Some(&Value::Bool(true));
    // What a login shell says at its start may lack its line feed; Ansible looks at the start of lines.
    let text = format!("\n{}\n", Value::Object(result));
    let mut stdout = std::io::stdout().lock();
    // When the reader has gone, the exit code is all that is left to tell.
    let told = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    ExitCode::from(u8::from(failed || told.is_err()))
}

#[expect(clippy::disallowed_methods, reason = "the file that Ansible has written and named")]
fn read_arguments(argument: &OsStr, leave_rest: bool) -> Result<Map<String, Value>, Failure> {
    let unreadable = |error: std::io::Error| {
        let usage = || Failure::new("usage", "cannot read the module's arguments").cause(error);
        interrupt::check().err().map_or_else(usage, |signal| signal.state("Nothing was changed."))
    };
    let arguments = if argument == "-" && leave_rest {
        let mut input = input::lock();
        let mut arguments = first_value(&mut *input);
        match input.fill_buf().map_err(unreadable)?.first() {
            None => {}
            Some(b'\n') => input.consume(1),
            // More of what should be the arguments.
            Some(_) => {
                arguments = arguments.and_then(|_| serde_json::from_slice(b"{} {}"));
            }
        }
        arguments
    } else if argument == "-" {
        let mut text = Vec::new();
        input::lock().read_to_end(&mut text).map_err(unreadable)?;
        serde_json::from_slice(&text)
    } else {
        serde_json::from_slice(&std::fs::read(argument).map_err(unreadable)?)
    };
    match arguments {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::new("usage", "the module's arguments are not a JSON object")),
        Err(error) => {
            Err(Failure::new("usage", "the module's arguments are not JSON").cause(error))
        }
    }
}

/// Reads arguments as [`main`] does and stops before the module runs. What fuzzing needs.
///
/// # Errors
/// What [`main`] would print.
pub(crate) fn check_arguments(module: &Callee, text: &[u8]) -> Result<(), Map<String, Value>> {
    let failed = |failure: Failure| Err(failure.into_result());
    match first_value(&mut &*text) {
        Ok(Value::Object(given)) => {
            let checked = check(module, given);
            checked.outcome.map(drop).map_err(|failure| {
                let mut result = failure.into_result();
                result.insert("invocation".into(), Value::Object(checked.shown));
                match checked.mask.apply_to_arguments(Value::Object(result)) {
                    Value::Object(result) => result,
                    _ => Map::new(),
                }
            })
        }
        Ok(_) => failed(Failure::new("usage", "the module's arguments are not a JSON object")),
        Err(error) => {
            failed(Failure::new("usage", "the module's arguments are not JSON").cause(error))
        }
    }
}

/// A JSON value, and nothing is taken from `input` that comes after it (a number apart).
fn first_value(input: &mut impl Read) -> serde_json::Result<Value> {
    let mut values = serde_json::Deserializer::from_reader(input).into_iter();
    values.next().unwrap_or_else(|| serde_json::from_slice(b""))
}

/// Checks the arguments, runs the module and makes the result.
fn execute(module: &Callee, given: Map<String, Value>) -> Map<String, Value> {
    let (settings, arguments): (Map<_, _>, Map<_, _>) =
        given.into_iter().partition(|(name, _)| name.starts_with("_ansible_"));
    let flag = |name: &str| settings.get(name) == Some(&Value::Bool(true));
    let context = Context { check_mode: flag("_ansible_check_mode"), diff: flag("_ansible_diff") };
    let arguments = without_others(module, arguments, settings.get("_ansible_oxistrano_defaults"));
    let checked = check(module, arguments);
    let result = match checked.outcome {
        Err(failure) => failure.into_result(),
        Ok(ready) => match ready(&context) {
            Ok(outcome) => outcome.into_result(&context),
            Err(failure) => failure.into_result(),
        },
    };
    let mut result = match checked.mask.apply(Value::Object(result)) {
        Value::Object(result) => result,
        _ => Map::new(),
    };
    // The words that the protocol itself uses are never secret.
    result.entry("changed").or_insert(false.into());
    if !checked.warnings.is_empty() {
        let warnings = result.entry("warnings").or_insert_with(|| json!([]));
        if let Value::Array(list) = warnings {
            list.extend(checked.warnings.into_iter().map(Value::from));
        }
    }
    // ansible-core says since 2.21 whether it wants them; before, they were always there.
    if settings.get("_ansible_inject_invocation") != Some(&Value::Bool(false)) {
        let shown = checked.mask.apply_to_arguments(Value::Object(checked.shown));
        result.insert("invocation".into(), json!({ "module_args": shown }));
    }
    // What it then masks in all that it shows. An older one would show them, in a warning.
    let secrets = checked.mask.no_log();
    if !secrets.is_empty() && is_version(settings.get("_ansible_version"), (2, 22)) {
        result.insert(NEW_SECRETS.into(), secrets.into());
    }
    result
}

/// Whether this is a version of ansible-core, and not an older one than `least`.
fn is_version(version: Option<&Value>, least: (u32, u32)) -> bool {
    let mut numbers = version.and_then(Value::as_str).unwrap_or_default().split('.');
    let mut number = || numbers.next().and_then(|number| number.parse().ok());
    number().zip(number()).is_some_and(|version| version >= least)
}

/// Leaves out what the play has set for a group of modules (`module_defaults`) and this one
/// does not have.
fn without_others(
    module: &Callee,
    mut arguments: Map<String, Value>,
    of_groups: Option<&Value>,
) -> Map<String, Value> {
    let has = |name: &str| {
        module.options.iter().any(|spec| spec.name == name || spec.aliases.contains(&name))
    };
    for name in of_groups.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if !has(name) {
            arguments.remove(name);
        }
    }
    arguments
}

struct Checked {
    outcome: Result<Ready, Failure>,
    mask: Mask,
    warnings: Vec<String>,
    /// The arguments as `invocation` shows them.
    shown: Map<String, Value>,
}

/// All the checks of `AnsibleModule`, all their complaints in one failure.
fn check(module: &Callee, mut given: Map<String, Value>) -> Checked {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut mask = Mask::default();
    for spec in module.options {
        for alias in spec.aliases {
            if let Some(value) = given.remove(*alias) {
                if given.contains_key(spec.name) {
                    warnings
                        .push(format!("Both option {} and its alias {alias} are set.", spec.name));
                }
                given.insert(spec.name.to_owned(), value);
            }
        }
        match given.get(spec.name) {
            Some(value) if spec.no_log => mask.add(value),
            Some(value) => mask.add_found(&bounded(value)),
            None => {}
        }
    }
    let open = |name: &str| module.option(name).is_some_and(|spec| !spec.no_log);
    given.iter().filter(|(name, _)| open(name)).for_each(|(_, value)| mask.spare(&bounded(value)));
    let mut values = Values::new();
    let mut shown = Map::new();
    for (name, value) in given {
        match module.option(&name) {
            Some(spec) => {
                shown.insert(
                    name.clone(),
                    if spec.no_log {
                        HIDDEN_PARAMETER.into()
                    } else {
                        bounded(&value).into_owned()
                    },
                );
                // As in Python, null is the same as not given.
                if !value.is_null() {
                    values.insert(name, value);
                }
            }
            None => problems.push(unsupported(module, &name)),
        }
    }
    let broken_by = |values: &Values, late: bool| -> Vec<String> {
        let rules = module.constraints.iter().filter(|rule| is_late(rule) == late);
        rules.filter_map(|rule| broken(rule, values)).collect()
    };
    problems.extend(broken_by(&values, false));
    for spec in module.options {
        match values.remove(spec.name) {
            Some(value) => match convert_option(spec, value) {
                Ok(value) => {
                    values.insert(spec.name.to_owned(), value);
                }
                Err(problem) => problems.push(problem),
            },
            None if spec.is_required() => problems.push(format!("{} is required", spec.name)),
            None => {
                if let Some(default) = spec.default {
                    values.insert(spec.name.to_owned(), default.value());
                }
            }
        }
    }
    problems.extend(broken_by(&values, true));
    for spec in module.options {
        if let (false, Some(value)) = (spec.no_log, values.get(spec.name)) {
            shown.insert(spec.name.to_owned(), bounded(value).into_owned());
        }
    }
    // Only a complete set of convertible values is worth looking at more closely.
    let ready = if problems.is_empty() { (module.prepare)(values, &mut problems) } else { None };
    let outcome = match ready {
        Some(ready) if problems.is_empty() => Ok(ready),
        _ => Err(Failure::new("invalid_arguments", format!("{} was called wrongly", module.name))
            .cause(problems.join("; "))
            .value("problems", problems)
            .state("Nothing was changed.")),
    };
    Checked { outcome, mask, warnings, shown }
}

/// An argument as it is looked through for secrets and shown again: of a text of megabytes only the
/// beginning.
fn bounded(value: &Value) -> Cow<'_, Value> {
    match value {
        Value::String(text) if text.len() > LONGEST_SHOWN => {
            let beginning: String = text.chars().take(LONGEST_SHOWN / 4).collect();
            let left = text.len() - beginning.len();
            Cow::Owned(format!("{beginning}… ({left} bytes more)").into())
        }
        Value::Array(items) if items.iter().any(|item| matches!(bounded(item), Cow::Owned(_))) => {
            Cow::Owned(items.iter().map(|item| bounded(item).into_owned()).collect())
        }
        value => Cow::Borrowed(value),
    }
}

fn convert_option(spec: &OptionSpec, value: Value) -> Result<Value, String> {
    let mut value = convert(spec.kind, value).map_err(|why| format!("{}: {why}", spec.name))?;
    if let (Some(kind), Value::Array(items)) = (spec.elements, &mut value) {
        for (index, item) in items.iter_mut().enumerate() {
            *item = convert(kind, item.take())
                .map_err(|why| format!("{}[{index}]: {why}", spec.name))?;
        }
    }
    if !spec.choices.is_empty() {
        let allowed = |item: &Value| item.as_str().is_some_and(|word| spec.choices.contains(&word));
        let wrong = match &value {
            Value::Array(items) => items.iter().find(|item| !allowed(item)),
            other => Some(other).filter(|item| !allowed(item)),
        };
        if let Some(wrong) = wrong {
            let wrong = if spec.no_log { "the value".to_owned() } else { show(wrong) };
            return Err(format!(
                "{}: {wrong} is not one of {}",
                spec.name,
                spec.choices.join(", ")
            ));
        }
    }
    Ok(value)
}

fn unsupported(module: &Callee, name: &str) -> String {
    // What the action plugin fills in is nothing for people.
    let specs = || module.options.iter().filter(|spec| !spec.internal);
    let names = || specs().flat_map(|spec| [&spec.name].into_iter().chain(spec.aliases).copied());
    // Of two that are as near, rather the one of which a letter was forgotten.
    let nearest = names()
        .map(|known| (distance(name, known), !is_part(name, known), known))
        .min()
        .filter(|(distance, _, known)| *distance * 2 <= known.len())
        .map(|(.., known)| known);
    // `paths` is rather `shared_paths` than `path`, if nothing else ends so.
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

/// Whether a rule is about what an option is in the end, whether it was given or not.
fn is_late(rule: &Constraint) -> bool {
    matches!(rule, Constraint::RequiredIf(..))
}

fn broken(rule: &Constraint, values: &Values) -> Option<String> {
    let given = |name: &&&str| values.contains_key(**name);
    let list = |names: &[&str]| names.join(", ");
    match *rule {
        Constraint::MutuallyExclusive(names) => (names.iter().filter(given).count() > 1)
            .then(|| format!("only one of {} can be given", list(names))),
        Constraint::RequiredTogether(names) => {
            let count = names.iter().filter(given).count();
            (count > 0 && count < names.len())
                .then(|| format!("{} go together: all or none", list(names)))
        }
        Constraint::RequiredOneOf(names) => (!names.iter().any(|name| given(&name)))
            .then(|| format!("one of {} is required", list(names))),
        Constraint::RequiredIf(name, word, others) => {
            let applies = values.get(name).is_some_and(|value| match value {
                Value::String(text) => text == word,
                Value::Bool(flag) => word == if *flag { "true" } else { "false" },
                Value::Number(number) => number.as_i64().is_some_and(|n| word.parse() == Ok(n)),
                _ => false,
            });
            let missing: Vec<_> = others.iter().filter(|name| !given(name)).copied().collect();
            (applies && !missing.is_empty())
                .then(|| format!("with {name}={word}, {} is required", list(&missing)))
        }
        Constraint::RequiredBy(name, others) => {
            let missing: Vec<_> = others.iter().filter(|name| !given(name)).copied().collect();
            (values.contains_key(name) && !missing.is_empty())
                .then(|| format!("{name} needs {}", list(&missing)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Literal;

    crate::options! {
        /// For the tests.
        struct Example {
            /// A path.
            deploy_to: std::path::PathBuf, aliases = &["root"];
            /// A number.
            keep: u32, default = Some(Literal::Number(5));
            /// A secret.
            password: Option<String>, no_log = true;
            /// A list.
            paths: Vec<String>;
            /// A list that makes a difference when it is empty.
            allowed: Option<Vec<String>>;
            /// Decides what else is needed.
            fast: bool, default = Some(Literal::Flag(false));
            /// The action plugin's.
            holder: Option<String>, internal = true;
            /// The same letters as another.
            path: Option<String>;
        }
        constraints: [
            Constraint::RequiredBy("password", &["paths"]),
            Constraint::RequiredIf("fast", "true", &["allowed"]),
            Constraint::RequiredIf("keep", "5", &["deploy_to"]),
        ];
    }

    #[test]
    fn what_follows_the_arguments_stays_for_the_module() {
        for (text, rest) in [
            ("{\"a\": \"}\"}\n{\"b\": 1}", "\n{\"b\": 1}"),
            ("{\n \"a\": [1, 2]\n}\n\n", "\n\n"),
            ("{}", ""),
        ] {
            let mut input = text.as_bytes();
            assert!(first_value(&mut input).unwrap().is_object());
            assert_eq!(input, rest.as_bytes());
        }
        for wrong in ["", "{", "no JSON"] {
            assert!(first_value(&mut wrong.as_bytes()).is_err());
        }
    }

    struct Probe;
    impl Module for Probe {
        type Options = Example;
        const NAME: &'static str = "probe";
        const DOCUMENTATION: Documentation = Documentation::NONE;
        fn run(options: Example, context: &Context) -> Result<Outcome, Failure> {
            Ok(Outcome::new(!context.check_mode)
                .value("keep", options.keep)
                .value("allowed", options.allowed)
                .value("others", json!([options.fast, options.holder, options.path]))
                .value("paths", options.paths)
                .msg(format!("{} {:?}", options.deploy_to.display(), options.password)))
        }
    }

    fn run(arguments: Value) -> Map<String, Value> {
        match arguments {
            Value::Object(map) => execute(&Callee::of::<Probe>(), map),
            _ => unreachable!(),
        }
    }

    #[test]
    fn defaults_aliases_and_settings_are_understood() {
        let result =
            run(json!({"root": "/srv", "_ansible_check_mode": true, "_ansible_new_key": 1}));
        assert_eq!(result["changed"], json!(false));
        assert_eq!(result["keep"], json!(5));
        assert_eq!(result["invocation"]["module_args"]["deploy_to"], json!("/srv"));
        assert_eq!(result["invocation"]["module_args"]["keep"], json!(5));
    }

    #[test]
    fn an_option_for_a_group_of_modules_may_be_unknown_to_one_of_them() {
        let mut arguments = json!({"deploy_to": "/srv", "keep": 3, "php": "php8.2"});
        assert_eq!(run(arguments.clone())["code"], json!("invalid_arguments"));
        arguments["_ansible_oxistrano_defaults"] = json!(["php", "keep"]);
        let result = run(arguments);
        assert_eq!((&result["keep"], result.get("failed")), (&json!(3), None));
        assert_eq!(result["invocation"]["module_args"].get("php"), None);
    }

    #[test]
    fn an_optional_list_that_is_not_given_is_not_an_empty_one() {
        assert_eq!(run(json!({"deploy_to": "/srv"}))["allowed"], json!(null));
        assert_eq!(run(json!({"deploy_to": "/srv", "allowed": []}))["allowed"], json!([]));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let result = run(json!({"deply_to": "/srv", "keep": "many", "password": "s3cret"}));
        assert_eq!(result["failed"], json!(true));
        assert_eq!(
            result["problems"],
            json!([
                "there is no option deply_to (did you mean deploy_to?)",
                "password needs paths",
                "deploy_to is required",
                "keep: 'many' cannot be converted to int"
            ])
        );
        assert!(!Value::Object(result).to_string().contains("s3cret"));
    }

    #[test]
    fn secrets_are_masked_in_results() {
        let result = run(json!({"deploy_to": "/srv", "password": "s3cret", "paths": "a"}));
        assert_eq!(result["msg"], json!("/srv Some(\"********\")"));
        assert_eq!(result["invocation"]["module_args"]["password"], json!(HIDDEN_PARAMETER));
    }

    #[test]
    fn invocation_is_left_out_where_ansible_does_not_want_it() {
        let with =
            |wanted: Value| run(json!({"deploy_to": "/srv", "_ansible_inject_invocation": wanted}));
        assert_eq!(with(json!(true))["invocation"]["module_args"]["deploy_to"], json!("/srv"));
        assert_eq!(with(json!(false)).get("invocation"), None);
    }

    #[test]
    fn no_log_values_are_reported_to_an_ansible_that_masks_them_and_to_no_other() {
        let told = |version: Value| {
            let mut arguments = json!({"deploy_to": "/srv", "password": "s3cr3t"});
            arguments["_ansible_version"] = version;
            run(arguments).get("_ansible_new_secrets").cloned()
        };
        for version in ["2.22.0rc1", "2.22.0", "2.23", "3.0"] {
            assert_eq!(told(json!(version)), Some(json!(["s3cr3t"])), "{version}");
        }
        for version in [json!("2.21.5"), json!("2.9.27"), json!("1.99"), json!("new"), json!(3)] {
            assert_eq!(told(version.clone()), None, "{version}");
        }
        let none = run(json!({"deploy_to": "/srv", "_ansible_version": "2.22.0"}));
        assert_eq!(none.get("_ansible_new_secrets"), None);
    }

    #[test]
    fn what_looks_like_a_secret_is_masked_without_no_log() {
        let url = "https://bob:s3cr3t-word@example.com/x";
        let result = run(json!({"deploy_to": "/srv", "paths": [url, "DB_PASSWORD=an0ther"]}));
        assert_eq!(result["paths"][0], json!("https://bob:********@example.com/x"));
        let text = Value::Object(result).to_string();
        assert!(!text.contains("s3cr3t-word") && !text.contains("an0ther"), "{text}");
        let wrong = Value::Object(run(json!({"deploy_to": "/srv", "keep": url}))).to_string();
        assert!(!wrong.contains("s3cr3t-word"), "{wrong}");
    }

    #[test]
    fn a_far_name_gets_the_list() {
        let result = run(json!({"deploy_to": "/srv", "zzz": 1}));
        assert_eq!(
            result["problems"][0],
            json!(
                "there is no option zzz (there are: allowed, deploy_to, fast, keep, password, path, \
                 paths)"
            )
        );
    }

    #[test]
    fn the_nearest_name_is_one_that_people_set_and_rather_the_longer_of_two() {
        for (given, meant) in
            [("pats", "paths"), ("pah", "path"), ("Keep", "keep"), ("to", "deploy_to")]
        {
            let result = run(json!({"deploy_to": "/srv", given: 1}));
            let problem = result["problems"][0].as_str().unwrap();
            assert!(problem.contains(&format!("did you mean {meant}?")), "{problem}");
        }
        let result = run(json!({"deploy_to": "/srv", "holders": 1}));
        assert!(!result["problems"][0].as_str().unwrap().contains("holder?"), "{result:?}");
    }

    #[test]
    fn what_is_required_depends_on_what_an_option_is_in_the_end() {
        let problems = |arguments: Value| run(arguments).get("problems").cloned();
        assert_eq!(problems(json!({"deploy_to": "/srv", "fast": true, "allowed": []})), None);
        // A word for a boolean, and a default.
        let fast = json!(["with fast=true, allowed is required"]);
        assert_eq!(problems(json!({"deploy_to": "/srv", "fast": "yes"})), Some(fast));
        let missing = problems(json!({})).unwrap();
        assert_eq!(missing, json!(["deploy_to is required", "with keep=5, deploy_to is required"]));
        assert_eq!(problems(json!({"keep": 4})), Some(json!(["deploy_to is required"])));
    }
}
