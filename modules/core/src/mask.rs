//! `no_log`: values that must not appear in a result.

use serde_json::{Map, Value};

/// What Ansible shows in place of such a parameter.
pub const HIDDEN_PARAMETER: &str = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER";
const HIDDEN: &str = "********";

/// The secret strings of the arguments.
#[derive(Debug, Default)]
pub struct Mask {
    secrets: Vec<String>,
}

impl Mask {
    /// Takes in every string and number of a `no_log` argument.
    pub fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) if !text.is_empty() => self.secrets.push(text.clone()),
            Value::Number(number) => self.secrets.push(number.to_string()),
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(map) => map.values().for_each(|item| self.add(item)),
            _ => return,
        }
        // The longest first, so that no tail of it stays when a shorter one is its head.
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Replaces every secret in a result, in keys as well.
    pub fn apply(&self, value: Value) -> Value {
        if self.secrets.is_empty() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.hide(text)),
            Value::Array(items) => items.into_iter().map(|item| self.apply(item)).collect(),
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(key, item)| (self.hide(key), self.apply(item)))
                    .collect::<Map<_, _>>(),
            ),
            Value::Number(number) if self.secrets.contains(&number.to_string()) => {
                HIDDEN_PARAMETER.into()
            }
            other => other,
        }
    }

    fn hide(&self, mut text: String) -> String {
        if self.secrets.contains(&text) {
            return HIDDEN_PARAMETER.to_owned();
        }
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), HIDDEN);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_vanish_everywhere() {
        let mut mask = Mask::default();
        mask.add(&json!(["pass", "password", 1234]));
        assert_eq!(
            mask.apply(
                json!({"msg": "the password is pass", "a": ["password"], "n": 1234, "c": 1})
            ),
            json!({"msg": "the ******** is ********", "a": [HIDDEN_PARAMETER], "n": HIDDEN_PARAMETER, "c": 1})
        );
    }
}
