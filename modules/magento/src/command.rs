//! `bin/magento` of a release, run as the user says.

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
            return Err("names no program".to_owned());
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err("contains a NUL byte".to_owned());
        }
        Ok(Self(words))
    }
}

/// Seconds. All that want a table queue behind who waits for it to be altered.
const LOCK_WAIT: &str = "1";

/// Magento's command in a release.
#[derive(Debug, Clone)]
pub struct Magento {
    path: PathBuf,
    /// The same as PHP sees it.
    root: PathBuf,
    php: Vec<OsString>,
    user: Option<User>,
    pub(crate) environment: Vec<(String, String)>,
    /// What no answer may show.
    mask: Mask,
}

impl Magento {
    /// Looks before PHP is started whether there is a Magento with a configuration: any
    /// command without `app/etc/env.php` writes one that is as good as empty, through a
    /// link into the shared directory as well (measured on 2.4.7).
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
            return Err(no_magento("there is no bin/magento".to_owned())
                .remedy("is this the root of a Magento, and did its artifact hold bin/?"));
        }
        let env = path.join("app/etc/env.php");
        if !env.is_file() {
            let dangling = env.is_symlink();
            let failure = no_magento(if dangling {
                format!("app/etc/env.php is a link to {:?}, where no file is", target(&env))
            } else {
                "there is no app/etc/env.php".to_owned()
            });
            return Err(failure.remedy(
                "put the shop's env.php into the shared directory and name app/etc/env.php in \
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
            // Not the value: it may be a password.
            let name = name.escape_debug();
            return Err(Failure::new("bad_environment", "cannot run PHP with this environment")
                .cause(format!("'{name}' is no name of a variable, or has a NUL byte in its value"))
                .state(untouched));
        }
        let mask = configuration::secrets(&env);
        Ok(Self { path: path.to_owned(), root, php, user, environment, mask })
    }

    /// Magento's root directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The warning to give when PHP runs as root: what it writes is root's, and the shop
    /// cannot write it any more.
    pub fn warning(&self) -> Option<String> {
        let uid = self.user.as_ref().map_or_else(users::current, |user| user.uid);
        (uid == 0).then(|| {
            "PHP ran as root, so the files that it made below var and generated belong to root; \
             name the shop's user in user (magento2_user)"
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

    /// Runs a command of Magento that must not be stopped half way: signals to the module
    /// wait for its end. What it prints goes into `log` as it comes; `held` stays open until
    /// all that it starts has ended (see [`crate::running::hold`]). `online`, beside a release that serves
    /// visitors, it waits for no lock of the database for longer than a second.
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

    /// Runs a script of ours, which may be stopped, with the release's root as its argument.
    ///
    /// # Errors
    /// When it cannot start or takes longer than `timeout`.
    pub(crate) fn script(&self, script: &[u8], timeout: Duration) -> Result<Answer, Failure> {
        self.run(&self.started(&self.with_script(script, None), timeout))
    }

    /// By `-r`, so that no file has to be where PHP finds it, in a container for example.
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

    /// PHP with these words.
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
        assert!(error.contains("is a link to \"../x\", where no file is"), "{error}");
    }
}
