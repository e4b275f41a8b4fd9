//! Ansible's types, and the conversion of one argument as `ansible.module_utils.common.validation` does it
//! (ansible-core 2.19): what a playbook may write for each type.

use std::env;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::users;

/// The types of Ansible's argument specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `str`
    Str,
    /// `bool`: yes/no, on/off, true/false, 1/0 …
    Bool,
    /// `int`
    Int,
    /// `list`: also a comma-separated string.
    List,
    /// `dict`: also JSON or `key=value` in a string.
    Dict,
    /// `path`: a string in which `~` and `$VARIABLES` are expanded.
    Path,
    /// `raw`: as it comes.
    Raw,
}

impl Kind {
    /// The name in Ansible's documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Str => "str",
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::List => "list",
            Kind::Dict => "dict",
            Kind::Path => "path",
            Kind::Raw => "raw",
        }
    }
}

/// Converts `value` to `kind`; the error names the value and the type.
pub fn convert(kind: Kind, value: Value) -> Result<Value, String> {
    match kind {
        Kind::Raw => Ok(value),
        Kind::Str => to_text(value).map(Value::String),
        Kind::Bool => to_bool(&value).map(Value::Bool),
        Kind::Int => to_int(&value),
        Kind::List => to_list(value),
        Kind::Dict => to_dict(value),
        Kind::Path => {
            let text = to_text(value)?;
            Ok(Value::String(expand_user(&expand_variables(&text))))
        }
    }
}

/// A value as it is shown in an error.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.escape_debug()),
        other => other.to_string(),
    }
}

fn failed(value: &Value, kind: Kind) -> String {
    format!("{} cannot be converted to {}", show(value), kind.name())
}

/// Python's `str()` of what JSON can hold; a list or dictionary as JSON.
fn to_text(value: Value) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => text,
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        other => return Err(failed(&other, Kind::Str)),
    })
}

fn to_bool(value: &Value) -> Result<bool, String> {
    let word = match value {
        Value::Bool(flag) => return Ok(*flag),
        Value::Number(number) if number.as_f64() == Some(1.0) => return Ok(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => return Ok(false),
        Value::String(text) => text.trim().to_lowercase(),
        _ => return Err(failed(value, Kind::Bool)),
    };
    match word.as_str() {
        "y" | "yes" | "on" | "1" | "true" | "t" | "1.0" => Ok(true),
        "n" | "no" | "off" | "0" | "false" | "f" | "0.0" => Ok(false),
        _ => Err(failed(value, Kind::Bool)),
    }
}

fn to_int(value: &Value) -> Result<Value, String> {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(value.clone()),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Ok((float as i64).into()),
            _ => Err(failed(value, Kind::Int)),
        },
        Value::Bool(flag) => Ok(i64::from(*flag).into()),
        Value::String(text) => {
            text.trim().parse::<i64>().map(Value::from).map_err(|_| failed(value, Kind::Int))
        }
        _ => Err(failed(value, Kind::Int)),
    }
}

fn to_list(value: Value) -> Result<Value, String> {
    match value {
        Value::Array(_) => Ok(value),
        // Split at its commas, the brackets would become parts of names.
        Value::String(text) if text.trim().starts_with('[') && text.trim().ends_with(']') => {
            Err(format!(
                "'{text}' is a string that looks like a list: write a list, without quotes around \
                 it"
            ))
        }
        Value::String(text) => {
            Ok(Value::Array(text.split(',').map(|part| part.trim().into()).collect()))
        }
        Value::Number(number) => Ok(Value::Array(vec![number.to_string().into()])),
        other => Err(failed(&other, Kind::List)),
    }
}

fn to_dict(value: Value) -> Result<Value, String> {
    match &value {
        Value::Object(_) => Ok(value),
        Value::String(text) if text.trim_start().starts_with('{') => {
            match serde_json::from_str::<Map<String, Value>>(text) {
                Ok(map) => Ok(Value::Object(map)),
                Err(_) => Err(failed(&value, Kind::Dict)),
            }
        }
        Value::String(text) if text.contains('=') => {
            let mut map = Map::new();
            for field in fields(text) {
                let (key, text) =
                    field.split_once('=').ok_or_else(|| failed(&value, Kind::Dict))?;
                map.insert(key.trim().to_owned(), text.into());
            }
            Ok(Value::Object(map))
        }
        _ => Err(failed(&value, Kind::Dict)),
    }
}

/// `a=1, b="x y"` → `a=1`, `b=x y`: splits at commas and blanks, except in quotes and after `\`.
fn fields(text: &str) -> Vec<String> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let (mut quote, mut escaped) = (None, false);
    for c in text.trim().chars() {
        if escaped {
            field.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '\'' || c == '"') {
            quote = Some(c);
        } else if quote.is_none() && (c == ',' || c == ' ') {
            fields.extend(Some(std::mem::take(&mut field)).filter(|field| !field.is_empty()));
        } else {
            field.push(c);
        }
    }
    fields.extend(Some(field).filter(|field| !field.is_empty()));
    fields
}

/// Python's `os.path.expandvars`: unknown variables stay.
fn expand_variables(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        out.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        let (name, length) = match after.strip_prefix('{') {
            Some(braced) => match braced.find('}') {
                Some(end) => (&braced[..end], end + 2),
                None => ("", 0),
            },
            None => {
                let end = after
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        match env::var(name) {
            Ok(value) if !name.is_empty() => out.push_str(&value),
            _ => out.push_str(&rest[start..start + 1 + length]),
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

/// Python's `os.path.expanduser`: `~` is `$HOME` or the home in `/etc/passwd`.
fn expand_user(text: &str) -> String {
    let Some(after) = text.strip_prefix('~') else {
        return text.to_owned();
    };
    let (name, rest) = match after.find('/') {
        Some(slash) => after.split_at(slash),
        None => (after, ""),
    };
    let home = if name.is_empty() {
        env::var_os("HOME")
            .map(PathBuf::from)
            .or_else(|| users::by_id(users::current()).ok().flatten().map(|user| user.home))
    } else {
        users::by_name(name).ok().flatten().map(|user| user.home)
    };
    match home {
        Some(home) => {
            let home = home.to_string_lossy();
            let expanded = format!("{}{rest}", home.trim_end_matches('/'));
            if expanded.is_empty() { "/".to_owned() } else { expanded }
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn booleans_are_what_ansible_says() {
        for yes in [json!("yes"), json!("On"), json!("1"), json!(1), json!("TRUE"), json!("t")] {
            assert_eq!(convert(Kind::Bool, yes), Ok(json!(true)));
        }
        for no in [json!("no"), json!("off"), json!(0), json!(0.0), json!("F"), json!(false)] {
            assert_eq!(convert(Kind::Bool, no), Ok(json!(false)));
        }
        assert_eq!(
            convert(Kind::Bool, json!("maybe")).unwrap_err(),
            "'maybe' cannot be converted to bool"
        );
    }

    #[test]
    fn numbers_come_from_strings() {
        assert_eq!(convert(Kind::Int, json!(" 5 ")), Ok(json!(5)));
        assert_eq!(convert(Kind::Int, json!(5.0)), Ok(json!(5)));
        assert!(convert(Kind::Int, json!("5 GB")).is_err());
        assert!(convert(Kind::Int, json!(5.5)).is_err());
    }

    #[test]
    fn lists_come_from_comma_separated_strings() {
        assert_eq!(convert(Kind::List, json!("a, b,c")), Ok(json!(["a", "b", "c"])));
        assert_eq!(convert(Kind::List, json!(7)), Ok(json!(["7"])));
        assert!(convert(Kind::List, json!({"a": 1})).is_err());
    }

    #[test]
    fn a_list_in_quotes_is_refused() {
        for text in ["[]", " ['a', 'b'] ", "[\"a\"]"] {
            let error = convert(Kind::List, json!(text)).unwrap_err();
            assert!(error.contains("looks like a list"), "{error}");
        }
        assert_eq!(convert(Kind::List, json!("*.[ch]")), Ok(json!(["*.[ch]"])));
    }

    #[test]
    fn dictionaries_come_from_json_and_from_pairs() {
        assert_eq!(convert(Kind::Dict, json!("{\"a\": 1}")), Ok(json!({"a": 1})));
        assert_eq!(convert(Kind::Dict, json!("a=1, b='x y'")), Ok(json!({"a": "1", "b": "x y"})));
        assert!(convert(Kind::Dict, json!("a")).is_err());
    }

    #[test]
    fn strings_come_from_scalars_as_python_writes_them() {
        assert_eq!(convert(Kind::Str, json!(true)), Ok(json!("True")));
        assert_eq!(convert(Kind::Str, json!(20260824)), Ok(json!("20260824")));
        assert!(convert(Kind::Str, json!(["a"])).is_err());
    }

    #[test]
    fn paths_expand_home_and_variables() {
        let variable = |name: &str| env::var(name).unwrap();
        let (home, package) = (variable("HOME"), variable("CARGO_PKG_NAME"));
        let home = home.trim_end_matches('/');
        for (given, expected) in [
            ("~/x", format!("{home}/x")),
            ("/$CARGO_PKG_NAME/x", format!("/{package}/x")),
            ("/${CARGO_PKG_NAME}x", format!("/{package}x")),
            ("/$OXISTRANO_UNSET/x$", "/$OXISTRANO_UNSET/x$".into()),
            ("~no-such-user/x", "~no-such-user/x".into()),
            ("~root/x", "/root/x".into()),
        ] {
            assert_eq!(convert(Kind::Path, json!(given)), Ok(json!(expected)), "{given}");
        }
    }
}
