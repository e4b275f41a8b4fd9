//! Options declared once: the declaration parses the arguments and documents them.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::convert::{self, Kind};

/// A default that can stand in a constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Literal {
    /// A string or path.
    Text(&'static str),
    /// A boolean.
    Flag(bool),
    /// A number.
    Number(i64),
    /// `[]`
    EmptyList,
    /// `{}`
    EmptyDict,
}

impl Literal {
    /// As JSON.
    pub fn value(self) -> Value {
        match self {
            Literal::Text(text) => text.into(),
            Literal::Flag(flag) => flag.into(),
            Literal::Number(number) => number.into(),
            Literal::EmptyList => Value::Array(Vec::new()),
            Literal::EmptyDict => Value::Object(Map::new()),
        }
    }
}

/// These lines, or none in a program built without documentation.
#[doc(hidden)]
pub const fn lines_of_documentation(lines: &'static [&'static str]) -> &'static [&'static str] {
    if cfg!(feature = "docs") { lines } else { &[] }
}

/// One option of a module, with what `argument_spec` and the documentation need.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Its name.
    pub name: &'static str,
    /// Its documentation, line by line, in Ansible's markup.
    pub doc: &'static [&'static str],
    /// Its type.
    pub kind: Kind,
    /// The type of a list's elements.
    pub elements: Option<Kind>,
    /// Whether it is required; an option with a default never is.
    pub required: bool,
    /// Its default.
    pub default: Option<Literal>,
    /// The allowed values; if empty, any.
    pub choices: &'static [&'static str],
    /// Other names.
    pub aliases: &'static [&'static str],
    /// Whether its value must never be shown.
    pub no_log: bool,
    /// Whether only the action plugin sets it.
    pub internal: bool,
}

impl OptionSpec {
    /// A specification without a name, to be completed by [`crate::options!`].
    pub const fn of(kind: Kind) -> Self {
        Self {
            name: "",
            doc: &[],
            kind,
            elements: None,
            required: true,
            default: None,
            choices: &[],
            aliases: &[],
            no_log: false,
            internal: false,
        }
    }

    /// Whether it must be given.
    pub const fn is_required(&self) -> bool {
        self.required && self.default.is_none()
    }
}

/// A rule over several options.
#[derive(Debug, Clone, Copy)]
pub enum Constraint {
    /// If the first option has the value, all of the others are required.
    RequiredIf(&'static str, &'static str, &'static [&'static str]),
    /// If the first option is set, all of the others are required.
    RequiredBy(&'static str, &'static [&'static str]),
}

impl Constraint {
    /// Whether a rule is checked after the defaults were filled in.
    pub(crate) const fn is_late(&self) -> bool {
        matches!(self, Constraint::RequiredIf(..))
    }

    /// The problem, if the options break the rule.
    pub(crate) fn broken(&self, values: &Values) -> Option<String> {
        let given = |name: &&&str| values.contains_key(**name);
        let list = |names: &[&str]| names.join(", ");
        match *self {
            Constraint::RequiredIf(name, word, others) => {
                let applies = values.get(name).is_some_and(|value| match value {
                    Value::String(text) => text == word,
                    Value::Bool(flag) => word == if *flag { "true" } else { "false" },
                    Value::Number(number) => number.as_i64().is_some_and(|n| word.parse() == Ok(n)),
                    _ => false,
                });
                let missing: Vec<_> = others.iter().filter(|name| !given(name)).copied().collect();
                (applies && !missing.is_empty())
                    .then(|| format!("{} is required with {name}={word}", list(&missing)))
            }
            Constraint::RequiredBy(name, others) => {
                let missing: Vec<_> = others.iter().filter(|name| !given(name)).copied().collect();
                (values.contains_key(name) && !missing.is_empty())
                    .then(|| format!("{name} needs {}", list(&missing)))
            }
        }
    }
}

/// One value of a module's result, for the documentation.
#[derive(Debug, Clone, Copy)]
pub struct ReturnSpec {
    /// Its key.
    pub name: &'static str,
    /// Its type in Ansible's terms.
    pub kind: &'static str,
    /// Its description.
    pub doc: &'static str,
    /// When it is returned.
    pub returned: &'static str,
}

/// Converted arguments by option name; options that were not given are missing.
pub type Values = Map<String, Value>;

/// A set of options; implemented by [`crate::options!`].
pub trait Options: Sized {
    /// All of them, in the order of the documentation.
    const SPECS: &'static [OptionSpec];
    /// The rules over them.
    const CONSTRAINTS: &'static [Constraint];
    /// Takes the typed values from converted arguments and collects all problems.
    fn from_values(values: Values, problems: &mut Vec<String>) -> Option<Self>;
}

/// A Rust type that an option can have.
pub trait FromValue: Sized {
    /// Its specification in Ansible's terms.
    const SPEC: OptionSpec;
    /// The value, already converted to [`Self::SPEC`]'s kind; `None` if not given.
    fn from_value(value: Option<Value>) -> Result<Self, String>;
}

/// Used by [`crate::options!`].
#[doc(hidden)]
pub fn take<T: FromValue>(
    values: &mut Values,
    name: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    match T::from_value(values.remove(name)) {
        Ok(value) => Some(value),
        Err(problem) => {
            problems.push(format!("{name}: {problem}"));
            None
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const SPEC: OptionSpec = OptionSpec { required: false, default: None, ..T::SPEC };
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        value.map(|value| T::from_value(Some(value))).transpose()
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    const SPEC: OptionSpec = OptionSpec {
        elements: Some(T::SPEC.kind),
        required: false,
        default: Some(Literal::EmptyList),
        choices: T::SPEC.choices,
        ..OptionSpec::of(Kind::List)
    };
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        match value {
            Some(Value::Array(items)) => {
                items.into_iter().map(|item| T::from_value(Some(item))).collect()
            }
            _ => Ok(Vec::new()),
        }
    }
}

macro_rules! from_value {
    ($type:ty, $kind:expr, $pattern:pat => $result:expr) => {
        impl FromValue for $type {
            const SPEC: OptionSpec = OptionSpec::of($kind);
            fn from_value(value: Option<Value>) -> Result<Self, String> {
                match value {
                    Some($pattern) => $result,
                    Some(other) => {
                        Err(format!("{} is not of type {}", convert::show(&other), $kind.name()))
                    }
                    None => Err("is missing".to_owned()),
                }
            }
        }
    };
}

from_value!(String, Kind::Str, Value::String(text) => Ok(text));
from_value!(PathBuf, Kind::Path, Value::String(text) => Ok(PathBuf::from(text)));
from_value!(bool, Kind::Bool, Value::Bool(flag) => Ok(flag));
from_value!(Map<String, Value>, Kind::Dict, Value::Object(map) => Ok(map));
from_value!(u64, Kind::Int, Value::Number(number) => {
    number.as_u64().ok_or_else(|| format!("{number} is negative or too large"))
});
from_value!(u32, Kind::Int, Value::Number(number) => {
    number.as_u64().and_then(|n| n.try_into().ok())
        .ok_or_else(|| format!("{number} is negative or too large"))
});
from_value!(i64, Kind::Int, Value::Number(number) => {
    number.as_i64().ok_or_else(|| format!("{number} is too large"))
});

/// Declares the options of a module once: the struct that the module reads, the
/// checks of its arguments and its documentation.
///
/// ```
/// oxistrano_core::options! {
///     /// The options of an example.
///     pub struct Options {
///         /// Root of the deployment.
///         deploy_to: std::path::PathBuf;
///         /// How many.
///         keep: u32, default = Some(oxistrano_core::Literal::Number(5));
///     }
/// }
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[doc = $struct_doc:literal])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $field:ident : $type:ty $(, $key:ident = $setting:expr)* ;
            )*
        }
        $(constraints: [$($constraint:expr),* $(,)?];)?
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Debug, Clone)]
        $visibility struct $name {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl $crate::Options for $name {
            const SPECS: &'static [$crate::OptionSpec] = &[$(
                $crate::OptionSpec {
                    name: stringify!($field),
                    doc: $crate::lines_of_documentation(&[$($doc),*]),
                    $($key: $setting,)*
                    ..<$type as $crate::FromValue>::SPEC
                },
            )*];
            const CONSTRAINTS: &'static [$crate::Constraint] = &[$($($constraint),*)?];

            fn from_values(
                mut values: $crate::Values,
                problems: &mut Vec<String>,
            ) -> Option<Self> {
                $( let $field = $crate::take::<$type>(&mut values, stringify!($field), problems); )*
                Some(Self { $( $field: $field?, )* })
            }
        }
    };
}

/// Declares an option with a fixed set of words.
///
/// ```
/// oxistrano_core::choices! {
///     /// How `current` leads to a release.
///     pub enum Via {
///         /// A symbolic link.
///         Symlink = "symlink",
///         /// A copy.
///         Rsync = "rsync",
///     }
/// }
/// ```
#[macro_export]
macro_rules! choices {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name {
            $( $(#[$variant_meta])* $variant ),*
        }

        impl $name {
            /// The word for it in an argument.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }
        }

        impl $crate::FromValue for $name {
            const SPEC: $crate::OptionSpec = $crate::OptionSpec {
                choices: &[$($word),*],
                ..$crate::OptionSpec::of($crate::Kind::Str)
            };
            fn from_value(value: Option<$crate::json::Value>) -> Result<Self, String> {
                match value.as_ref().and_then(|value| value.as_str()) {
                    $( Some($word) => Ok(Self::$variant), )*
                    _ => Err(format!("must be one of {}", [$($word),*].join(", "))),
                }
            }
        }
    };
}
