//! Masks secrets in results: the values of `no_log` options, and any text that looks like a secret.

use serde_json::{Map, Value};

use crate::secrets::{self, HIDDEN};

/// What Ansible shows in place of such a parameter.
pub const HIDDEN_PARAMETER: &str = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER";

/// Shorter texts that only look like secrets are not searched for elsewhere: they would match parts of other words.
const SHORTEST: usize = 6;
/// A shorter text is replaced only where it is a separate word.
const SHORT: usize = 8;
/// So many bytes of an argument are in PHP's stack traces (`zend.exception_string_param_max_len`).
const IN_TRACES: usize = 15;

/// The secret strings of the arguments.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    /// Values of `no_log` options, replaced everywhere.
    secrets: Vec<String>,
    /// Texts that look like secrets.
    found: Vec<String>,
}

impl Mask {
    /// Adds every string and number of a `no_log` argument.
    pub(crate) fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) if !text.is_empty() => self.secrets.push(text.clone()),
            Value::Number(number) => self.secrets.push(number.to_string()),
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(map) => map.values().for_each(|item| self.add(item)),
            _ => return,
        }
        // The longest first, so that no rest of it stays if a shorter one is its beginning.
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// The values that [`Self::add`] has added. Those that only look like secrets are not included:
    /// they are a guess, good enough to mask this module's result, but not all output of a play.
    pub(crate) fn no_log(&self) -> Vec<String> {
        self.secrets.clone()
    }

    /// Adds what looks like a secret in an argument that is not `no_log`: a password in a URL,
    /// `DB_PASSWORD=…` in a command, a variable with such a name.
    pub(crate) fn add_found(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                for range in secrets::ranges(text) {
                    self.add_secret(&text[range]);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.add_found(item)),
            Value::Object(map) => {
                for (name, item) in map {
                    match item {
                        Value::String(text) if secrets::is_name(name) => self.add_secret(text),
                        item => self.add_found(item),
                    }
                }
            }
            _ => {}
        }
    }

    /// Adds one secret, and the part of it that a PHP stack trace shows.
    pub fn add_secret(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        self.found.push(secret.to_owned());
        if let Some(beginning) = secret.get(..IN_TRACES).filter(|start| start.len() < secret.len())
        {
            self.found.push(format!("{beginning}..."));
        }
        self.found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Drops a found secret that also occurs in a value that is not secret (`magento` as a password
    /// and in a path): it is known anyway, and replacing it would make the result useless.
    pub fn spare(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                let plain = secrets::hide(text);
                self.found.retain(|secret| !plain.contains(secret.as_str()));
            }
            Value::Array(items) => items.iter().for_each(|item| self.spare(item)),
            Value::Object(map) => map
                .iter()
                .filter(|(name, _)| !secrets::is_name(name))
                .for_each(|(_, item)| self.spare(item)),
            _ => {}
        }
    }

    /// Replaces every secret in a result, in keys as well.
    pub(crate) fn apply(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.hide(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.apply(item)).collect(),
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(key, item)| (self.hide(&key), self.apply(item)))
                    .collect::<Map<_, _>>(),
            ),
            Value::Number(number) if self.secrets.contains(&number.to_string()) => {
                HIDDEN_PARAMETER.into()
            }
            other => other,
        }
    }

    /// Replaces secrets in the arguments that are shown. There, an option's name also shows whether
    /// its value is a secret.
    pub(crate) fn apply_to_arguments(&self, value: Value) -> Value {
        match value {
            Value::Object(map) => map
                .into_iter()
                .map(|(name, item)| {
                    let item = match item {
                        Value::String(text)
                            if secrets::is_name(&name) && text != HIDDEN_PARAMETER =>
                        {
                            HIDDEN.into()
                        }
                        item => self.apply_to_arguments(item),
                    };
                    (self.hide(&name), item)
                })
                .collect::<Map<_, _>>()
                .into(),
            Value::Array(items) => {
                items.into_iter().map(|item| self.apply_to_arguments(item)).collect()
            }
            other => self.apply(other),
        }
    }

    /// Masks the known secrets in a text, and what looks like one.
    pub fn hide(&self, text: &str) -> String {
        if self.secrets.iter().any(|secret| secret == text) {
            return HIDDEN_PARAMETER.to_owned();
        }
        let mut text = secrets::hide(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), HIDDEN);
            }
        }
        for secret in &self.found {
            if text.contains(secret.as_str()) {
                text = replace_found(&text, secret);
            }
        }
        text
    }
}

fn replace_found(text: &str, secret: &str) -> String {
    if secret.len() >= SHORT {
        return text.replace(secret, HIDDEN);
    }
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut hidden = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.match_indices(secret) {
        let end = at + secret.len();
        if at < done
            || is_word(text[..at].chars().next_back())
            || is_word(text[end..].chars().next())
        {
            continue;
        }
        hidden.push_str(&text[done..at]);
        hidden.push_str(HIDDEN);
        done = end;
    }
    hidden.push_str(&text[done..]);
    hidden
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

    #[test]
    fn what_looks_like_a_secret_in_an_argument_is_one_everywhere() {
        let mut mask = Mask::default();
        mask.add_found(&json!({
            "environment": {"MYSQL_PWD": "s3cr3t-one", "MAGE_MODE": "production", "APP_KEY": "short1"},
            "php": ["docker", "exec", "-e", "DB_PASSWORD=s3cr3t-two", "php"],
            "urls": ["https://shop:s3cr3t-three@example.com/"],
        }));
        let result = mask.apply(json!([
            "s3cr3t-one in production",
            "#0 PDO('s3cr3t-two', '')",
            "got s3cr3t-three",
            "short1 xshort1x"
        ]));
        assert_eq!(
            result,
            json!([
                "******** in production",
                "#0 PDO('********', '')",
                "got ********",
                "******** xshort1x"
            ])
        );
    }

    #[test]
    fn the_part_that_a_stack_trace_shows_is_replaced_too() {
        let mut mask = Mask::default();
        mask.add_secret("correct-horse-battery-staple");
        assert_eq!(
            mask.hide("PDO->__construct('correct-horse-b...')"),
            "PDO->__construct('********')"
        );
    }

    #[test]
    fn a_password_that_is_a_part_of_a_path_spoils_no_path() {
        let mut mask = Mask::default();
        let arguments =
            json!({"path": "/var/www/magento", "environment": {"DB_PASSWORD": "magento"}});
        mask.add_found(&arguments);
        mask.spare(&arguments);
        assert_eq!(
            mask.apply(json!("/var/www/magento/current")),
            json!("/var/www/magento/current")
        );
        assert_eq!(
            mask.apply_to_arguments(arguments),
            json!({"path": "/var/www/magento", "environment": {"DB_PASSWORD": HIDDEN}})
        );
    }
}
