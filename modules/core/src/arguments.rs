//! Owns the checks of a module's arguments: those that `AnsibleModule` makes, in one failure.

mod nearest;

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::Failure;
use crate::convert::{convert, show};
use crate::mask::{HIDDEN_PARAMETER, Mask};
use crate::module::{Callee, Ready};
use crate::options::{OptionSpec, Values};

/// A longer argument is not shown to its end.
const LONGEST_SHOWN: usize = 64 << 10;

/// Drops the options that the play sets for a group of modules (`module_defaults`) and that this module does not have.
pub(crate) fn without_others(
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

/// The result of the checks.
pub(crate) struct Checked {
    /// The module, ready to run, or what is wrong.
    pub outcome: Result<Ready, Failure>,
    pub mask: Mask,
    pub warnings: Vec<String>,
    /// The arguments as `invocation` shows them.
    pub shown: Map<String, Value>,
}

/// Makes all the checks of `AnsibleModule` and collects all problems in one failure.
pub(crate) fn check(module: &Callee, mut given: Map<String, Value>) -> Checked {
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
            None => problems.push(nearest::unsupported(module, &name)),
        }
    }
    let broken_by = |values: &Values, late: bool| -> Vec<String> {
        let rules = module.constraints.iter().filter(|rule| rule.is_late() == late);
        rules.filter_map(|rule| rule.broken(values)).collect()
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
    // Further checks need all values, converted.
    let ready = if problems.is_empty() { (module.prepare)(values, &mut problems) } else { None };
    let outcome = match ready {
        Some(ready) if problems.is_empty() => Ok(ready),
        _ => {
            Err(Failure::new("invalid_arguments", format!("{} got invalid arguments", module.name))
                .cause(problems.join("; "))
                .value("problems", problems)
                .state("Nothing was changed."))
        }
    };
    Checked { outcome, mask, warnings, shown }
}

/// An argument as it is searched for secrets and shown in the result: of a very long text, only the beginning.
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
