//! Runs `bin/magento` of a release.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oxistrano_core::command::Program;
use oxistrano_core::json::Value;
use oxistrano_core::mask::Mask;
use oxistrano_core::users::{self, User};
use oxistrano_core::{AbsPath, Failure, FromValue, Kind, Literal, OptionSpec, Values};

use crate::{Answer, configuration, script};

/// The words of the PHP command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Php(Vec<String>);

impl Php {
    /// The words.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl FromValue for Php {
    const SPEC: OptionSpec =
        OptionSpec { default: Some(Literal::Text("php")), ..OptionSpec::of(Kind::Raw) };

    fn from_value(value: Option<Value>) -> Result<Self, String> {
        let words = match value {
            Some(Value::String(line)) => {
                shlex::split(&line).ok_or_else(|| "has a quote that is not closed".to_owned())?
            }
            Some(Value::Array(words)) => words
                .into_iter()
                .map(|word| match word {
                    Value::String(word) => Ok(word),
                    Value::Number(number) => Ok(number.to_string()),
                    _ => Err("its words must be strings".to_owned()),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err("must be a list of words or a string".to_owned()),
        };
        if words.first().is_none_or(String::is_empty) {
            return Err("does not name a program".to_owned());
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err("contains a NUL byte".to_owned());
        }
        Ok(Self(words))
    }
}

/// In seconds. While an ALTER waits for a table, all other queries on it wait behind the ALTER.
const LOCK_WAIT: &str = "1";

/// Magento's command in a release.
#[derive(Debug, Clone)]
pub struct Magento {
    path: PathBuf,
    /// The same path as PHP sees it.
    root: PathBuf,
    php: Vec<OsString>,
    user: Option<User>,
    pub(crate) environment: Vec<(String, String)>,
    /// The secrets to mask in answers.
    mask: Mask,
}

impl Magento {
    /// Checks, before PHP is started, that there is a Magento with a configuration: without
    /// `app/etc/env.php`, any command writes an almost empty one, even through a link into the
    /// shared directory (measured on 2.4.7).
    ///
    /// # Errors
    /// `no_magento`, `no_such_user`, `bad_environment`.
    pub fn new(
        path: &AbsPath,
        php: &Php,
        path_for_php: Option<&Path>,
        user: Option<&str>,
        environment: &Values,
    ) -> Result<Self, Failure> {
        let path = path.as_path();
        let untouched = "PHP was not started; nothing was changed.";
        let no_magento = |cause: String| {
            Failure::new("no_magento", format!("cannot run Magento in '{}'", path.display()))
                .cause(cause)
                .path(path)
                .state(untouched)
        };
        if !path.join("bin/magento").is_file() {
            return Err(no_magento("there is no bin/magento".to_owned()).remedy(
                "check that this is Magento's root directory and that its artifact \
                    contains bin/",
            ));
        }
        let env = path.join("app/etc/env.php");
        if !env.is_file() {
            let dangling = env.is_symlink();
            let failure = no_magento(if dangling {
                format!("app/etc/env.php is a link to {:?}, which is not a file", target(&env))
            } else {
                "there is no app/etc/env.php".to_owned()
            });
            return Err(failure.remedy(
                "put the shop's env.php into the shared directory and list app/etc/env.php in \
                 ansistrano_shared_files",
            ));
        }
        let user = user.filter(|user| !user.is_empty()).map(users::resolve_user).transpose()?;
        let php: Vec<OsString> = php.0.iter().map(Into::into).collect();
        let root = path_for_php.unwrap_or(path).to_owned();
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => (name.clone(), text.clone()),
                Value::Bool(true) => (name.clone(), "1".to_owned()),
                Value::Bool(false) | Value::Null => (name.clone(), String::new()),
                other => (name.clone(), other.to_string()),
            })
            .collect();
        let bad = |(name, value): &&(String, String)| {
            name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
        };
        if let Some((name, _)) = environment.iter().find(bad) {
            // Without the value, which may be a password.
            let name = name.escape_debug();
            return Err(Failure::new("bad_environment", "cannot run PHP with this environment")
                .cause(format!(
                    "'{name}' is not a valid variable name, or its value contains a \
                    NUL byte"
                ))
                .state(untouched));
        }
        let mask = configuration::secrets(&env);
        Ok(Self { path: path.to_owned(), root, php, user, environment, mask })
    }

    /// Magento's root directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The warning if PHP runs as root: its files belong to root, and the shop cannot write them.
    pub fn warning(&self) -> Option<String> {
        let uid = self.user.as_ref().map_or_else(users::current, |user| user.uid);
        (uid == 0).then(|| {
            "PHP ran as root, so the files that it wrote below var and generated belong to root; \
             set user (magento2_user) to the shop's user"
                .to_owned()
        })
    }

    /// Runs a command of Magento that may be stopped.
    ///
    /// # Errors
    /// When it cannot start or takes longer than `timeout`.
    pub fn ask(&self, arguments: &[&str], timeout: Duration) -> Result<Answer, Failure> {
        let mut words = vec![self.root.join("bin/magento").into_os_string()];
        add(&mut words, arguments);
        self.run(&self.started(&words, timeout))
    }

    /// Runs a command of Magento that must not be interrupted: the module handles signals after its
    /// end. Its output goes to `log` as it comes; `held` stays open until all its processes have
    /// ended (see [`crate::running::hold`]). With `online`, while the live release serves visitors,
    /// it waits at most one second for a database lock.
    ///
    /// # Errors
    /// When it cannot start or takes longer than `timeout`.
    pub fn change(
        &self,
        arguments: &[&str],
        timeout: Duration,
        log: Option<File>,
        held: Option<Arc<File>>,
        online: bool,
    ) -> Result<Answer, Failure> {
        let mut words = match online {
            true => self.with_script(script::ONLINE, Some(LOCK_WAIT)),
            false => vec![self.root.join("bin/magento").into_os_string()],
        };
        add(&mut words, arguments);
        self.run(&self.started(&words, timeout).log(log).input_file(held).to_the_end())
    }

    /// Runs one of our PHP scripts, which may be interrupted, with the release's root as its argument.
    ///
    /// # Errors
    /// When it cannot start or takes longer than `timeout`.
    pub(crate) fn script(&self, script: &[u8], timeout: Duration) -> Result<Answer, Failure> {
        self.run(&self.started(&self.with_script(script, None), timeout))
    }

    /// By `-r`, so that PHP needs no file, for example in a container.
    fn with_script(&self, script: &[u8], argument: Option<&str>) -> Vec<OsString> {
        let script = script::unpacked(script);
        let mut words = vec!["-r".into(), script.into(), "--".into(), self.root.clone().into()];
        words.extend(argument.map(OsString::from));
        words
    }

    fn run(&self, program: &Program) -> Result<Answer, Failure> {
        match program.run() {
            Ok(output) => Ok(Answer::new(output).without(&self.mask)),
            Err(failure) => Err(failure.without(&self.mask)),
        }
    }

    /// PHP with these arguments.
    fn started(&self, words: &[OsString], timeout: Duration) -> Program {
        let words = self.php.iter().chain(words).cloned();
        let program =
            Program::new(words).directory(&self.path).timeout(timeout).user(self.user.clone());
        self.environment.iter().fold(program, |program, (name, value)| program.env(name, value))
    }
}

fn add(words: &mut Vec<OsString>, arguments: &[&str]) {
    words.extend(arguments.iter().chain(&["--no-ansi", "-n"]).map(OsString::from));
}

fn target(link: &Path) -> PathBuf {
    std::fs::read_link(link).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use oxistrano_core::json::json;

    use super::*;

    fn php(value: Value) -> Result<Vec<String>, String> {
        Php::from_value(Some(value)).map(|php| php.0)
    }

    #[test]
    fn php_is_a_list_or_a_string() {
        let words = ["docker", "exec", "shop php", "php"].map(str::to_owned).to_vec();
        assert_eq!(php(json!("docker exec 'shop php' php")).unwrap(), words);
        assert_eq!(php(json!(["docker", "exec", "shop php", "php"])).unwrap(), words);
        for wrong in
            [json!(""), json!([]), json!("php 'x"), json!(7), json!([["php"]]), json!("a\0")]
        {
            assert!(php(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn php_is_not_started_without_a_configuration() {
        let scratch = tempfile::tempdir().unwrap();
        let path = AbsPath::new(scratch.path()).unwrap();
        let php = Php(vec!["php".to_owned()]);
        let new = || Magento::new(&path, &php, None, None, &Values::new());
        assert!(new().unwrap_err().to_string().contains("there is no bin/magento"));
        std::fs::create_dir_all(scratch.path().join("bin")).unwrap();
        std::fs::create_dir_all(scratch.path().join("app/etc")).unwrap();
        std::fs::write(scratch.path().join("bin/magento"), "").unwrap();
        assert!(new().unwrap_err().to_string().contains("there is no app/etc/env.php"));
        std::os::unix::fs::symlink("../x", scratch.path().join("app/etc/env.php")).unwrap();
        let error = new().unwrap_err().to_string();
        assert!(error.contains("is a link to \"../x\", which is not a file"), "{error}");
    }
}
