//! A scratch Magento: releases in a deploy root, and a `php` that answers as Magento 2.4.7
//! does (measured). It is a script of the shell; what it should answer is another, one for
//! each command of Magento.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::root::run_program_in;
use crate::{Manifest, Reply, Root, Running, binary};

/// Writes down how it was called, then runs the script that is named like the command. It
/// writes nothing into the release, so that a test sees what the module itself writes.
const PHP: &str = r#"
here=$1
if [ "$2" = -r ]; then
    # A script of ours; behind it --, the release, and perhaps a number and a command of Magento.
    script=$5/bin/magento; seconds=$6; shift 5
    if [ $# = 0 ]; then set -- pending; else shift; fi
    set -- "$script" "$@"
else
    shift
fi
script=$1; command=$2
printf '%s\n' "$*" >> "$here/calls"
printf '%s\n' "$PWD" > "$here/directory"
if [ -f "$here/answers/$command" ]; then . "$here/answers/$command"; exit; fi
echo "  Command \"$command\" is not defined.  " >&2
exit 1
"#;

/// The configuration of the shop, which releases share.
const ENV: &str = "<?php return ['db' => ['table_prefix' => 'm2_']];\n";

/// A shop with the releases 1, which is live, and 2, and one `var` for both.
#[derive(Debug)]
pub struct Shop {
    /// Its deploy root.
    pub root: Root,
    environment: Vec<(String, String)>,
}

impl Shop {
    /// A shop in which Magento knows no command yet.
    #[allow(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let shop = Self { root: Root::fresh(), environment: Vec::new() };
        let root = &shop.root;
        root.write("shared/app/etc/env.php", ENV);
        root.write("shared/var/log/system.log", "");
        for release in ["releases/1", "releases/2"] {
            root.write(format!("{release}/bin/magento"), "#!/usr/bin/env php\n");
            root.write(format!("{release}/app/etc/config.php"), "<?php return [];\n");
            root.link(format!("{release}/app/etc/env.php"), "../../../../shared/app/etc/env.php");
            root.link(format!("{release}/var"), "../../shared/var");
        }
        root.link("current", "./releases/1");
        fs::create_dir_all(root.beside("php/answers")).expect("a directory");
        fs::write(root.beside("php/php"), PHP).expect("the script");
        shop
    }

    /// The same with a `var` in each release.
    pub fn with_own_vars() -> Self {
        let shop = Self::new();
        for release in ["releases/1", "releases/2"] {
            fs::remove_file(shop.root.at(release).join("var")).expect("the link");
            fs::create_dir(shop.root.at(release).join("var")).expect("a directory");
        }
        shop
    }

    /// The words of the PHP command. The shell is what is executed: the script itself may
    /// still be open for writing in a child that another test forks.
    pub fn php(&self) -> Value {
        json!(["sh", self.script(), self.directory()])
    }

    /// The script that is run as PHP.
    pub fn script(&self) -> PathBuf {
        self.root.beside("php/php")
    }

    /// The directory that the script gets as its first argument.
    pub fn directory(&self) -> PathBuf {
        self.root.beside("php")
    }

    /// What a command of Magento does, as a script of the shell; `$here` is a directory to
    /// leave something in, `$script` the path of `bin/magento`, and `$@` the command.
    pub fn answer(&self, command: &str, script: &str) {
        fs::write(self.directory().join("answers").join(command), script).expect("a script");
    }

    /// The command lines of Magento that were run, in their order.
    pub fn calls(&self) -> Vec<String> {
        self.left("calls").lines().map(str::to_owned).collect()
    }

    /// What a script has left in `$here`; nothing if it has not.
    pub fn left(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap_or_default()
    }

    /// Waits for what a script is to leave in `$here`, a line at least.
    #[track_caller]
    pub fn await_left(&self, name: &str) -> String {
        let started = Instant::now();
        while !self.left(name).ends_with('\n') {
            assert!(started.elapsed() < Duration::from_secs(60), "'{name}' never came");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.left(name)
    }

    /// Puts a program in front of all others of its name.
    pub fn program(&self, name: &str, script: &str) {
        let directory = self.root.beside("programs");
        fs::create_dir_all(&directory).expect("a directory");
        let text = directory.join(format!("{name}.sh"));
        fs::write(&text, format!("#!/bin/sh\n{script}")).expect("a script");
        // By another process: see `Files::new`.
        let made = std::process::Command::new("install")
            .args(["-m", "755"])
            .args([&text, &directory.join(name)])
            .status();
        assert!(made.expect("install").success());
    }

    /// The environment of a module here.
    fn environment(&self) -> Vec<(String, String)> {
        let mut path = self.root.beside("programs").display().to_string();
        path.push(':');
        path += &std::env::var("PATH").unwrap_or_default();
        let mut environment = vec![("PATH".to_owned(), path)];
        environment.extend(self.environment.iter().cloned());
        environment
    }

    /// One more variable in the environment of the modules.
    pub fn set(&mut self, name: &str, value: impl AsRef<Path>) {
        self.environment.push((name.to_owned(), value.as_ref().display().to_string()));
    }

    /// What the module needs beside these arguments: where release 2 is, how PHP is run.
    fn complete(&self, module: &str, mut arguments: Value) -> Value {
        let mut given = |name: &str, value: Value| {
            if arguments.get(name).is_none() {
                arguments[name] = value;
            }
        };
        if matches!(
            module,
            "magento_status" | "magento_upgrade" | "magento_cache" | "magento_consumers"
        ) {
            given("path", self.root.at("releases/2").to_str().into());
            given("php", self.php());
        }
        if matches!(
            module,
            "magento_maintenance" | "magento_upgrade" | "magento_cron" | "magento_consumers"
        ) {
            given("deploy_to", self.root.path().to_str().into());
        }
        arguments
    }

    /// Runs a module.
    #[track_caller]
    pub fn run(&self, module: &str, arguments: Value) -> Reply {
        self.run_with(module, arguments, None)
    }

    /// Runs a module as another user, when the tests run as root; else as their user.
    #[track_caller]
    pub fn run_as(&self, uid: u32, module: &str, arguments: Value) -> Reply {
        self.run_with(module, arguments, Some(uid))
    }

    #[track_caller]
    fn run_with(&self, module: &str, arguments: Value, uid: Option<u32>) -> Reply {
        let arguments = self.complete(module, arguments);
        run_program_in(&binary(module), &arguments, uid, &self.environment())
    }

    /// Runs a module with `--check --diff` and makes sure that nothing in the deploy root
    /// is different afterwards.
    #[track_caller]
    pub fn check(&self, module: &str, mut arguments: Value) -> Reply {
        arguments["_ansible_check_mode"] = true.into();
        arguments["_ansible_diff"] = true.into();
        let before = Manifest::exact(&self.root.path());
        let reply = self.run(module, arguments);
        before.assert_same(&Manifest::exact(&self.root.path()));
        reply.kept_to_documentation(module)
    }

    /// Starts a module and does not wait for its end.
    pub fn start(&self, module: &str, arguments: Value) -> Running {
        let arguments = self.complete(module, arguments);
        Running::start(&binary(module), &arguments, &self.environment())
    }
}

/// What Symfony's console prints of an exception: 80 columns, one of them left free, two
/// blanks on either side, cut wherever that ends. `title` is missing for its own exceptions,
/// an unknown command for example.
pub fn exception(title: Option<&str>, message: &str) -> String {
    const WIDTH: usize = 80 - 1 - 4;
    let mut lines: Vec<String> = Vec::new();
    for line in message.lines() {
        let characters: Vec<char> = line.chars().collect();
        match characters.is_empty() {
            true => lines.push(String::new()),
            false => lines.extend(characters.chunks(WIDTH).map(|chunk| chunk.iter().collect())),
        }
    }
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let blank = " ".repeat(width + 4);
    let title = title.map(|title| format!("In {title}:\n")).unwrap_or_default();
    let block: String = lines.iter().map(|line| format!("  {line:width$}  \n")).collect();
    format!("\n{title}{blank}\n{block}{blank}\n\n")
}

/// A script that prints this on standard error and ends with this code.
pub fn fails(code: i32, text: &str) -> String {
    format!("cat >&2 <<'THE END'\n{text}\nTHE END\nexit {code}\n")
}
