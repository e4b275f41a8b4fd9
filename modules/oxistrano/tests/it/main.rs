//! The shipped program: every module under its name, however it is called.

mod phases;

use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use oxistrano_harness::{Reply, Root, Shop, Value, app, binary, json, run_program};

const PROGRAM: &str = env!("CARGO_BIN_EXE_oxistrano");

fn run(program: &str, arguments: &[&str], input: &Value) -> Output {
    use std::io::Write;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.to_string().as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_link_and_a_first_argument_name_the_same_module() {
    let root = Root::fresh();
    for module in oxistrano::MODULES {
        let link = root.beside(module.name);
        symlink(PROGRAM, &link).unwrap();
        let wrong = json!({"no_such_option": 1});
        let by_link = run(link.to_str().unwrap(), &["-"], &wrong);
        let by_argument = run(PROGRAM, &[module.name, "-"], &wrong);
        let reply = Reply::of(&by_link).failed("invalid_arguments");
        reply.says([module.name, "there is no option no_such_option"]);
        assert_eq!(by_link.stdout, by_argument.stdout, "{}", module.name);
    }
}

#[test]
fn without_a_module_it_says_which_there_are() {
    for arguments in [&[][..], &["-"], &["no_such_module", "-"]] {
        let reply = Reply::of(&run(PROGRAM, arguments, &json!({}))).failed("usage");
        reply.says(["does not know which module", "release_setup", "php_fpm"]);
        assert_eq!(reply["modules"].as_array().unwrap().len(), oxistrano::MODULES.len());
    }
}

#[test]
fn what_a_module_starts_in_the_background_is_the_same_module() {
    let root = Root::with(&["1", "2", "3", "4"]);
    let arguments =
        json!({"deploy_to": root.path().to_str(), "keep": 1, "keep_previous": true, "wait": false});
    let reply = Reply::of(&run(PROGRAM, &["release_prune", "-"], &arguments)).changed();
    assert_eq!(reply["removed"].as_array().map(Vec::len), Some(2), "{reply}");
    let trash = || {
        let names = std::fs::read_dir(root.at("releases")).unwrap().filter_map(Result::ok);
        names.filter(|entry| entry.file_name().to_string_lossy().contains("trash")).count()
    };
    let started = std::time::Instant::now();
    while trash() > 0 {
        assert!(started.elapsed().as_secs() < 30, "nobody empties the trash");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Each module once with `--check --diff`, where it would change something if it ever does. What
/// the replies must have, the harness knows from the documentation.
#[test]
fn every_module_shows_with_check_and_diff_what_it_is_documented_to_show() {
    let root = Root::with(&["1", "2", "3"]);
    root.begin("4", &app("4"), &json!({}));
    let archive = root.archive("a.tar", &oxistrano_harness::tar(&app("5")));
    root.write("src/index.php", "");
    let shop = Shop::with_own_vars();
    shop.answer("setup:db:status", "echo 'All modules are up to date.'");
    shop.answer("app:config:status", "echo 'Config files are up to date.'");
    shop.program(
        "crontab",
        "[ \"$1\" = -l ] && echo \"* * * * * $OXISTRANO_ROOT/bin/magento cron:run\"",
    );
    for module in oxistrano::MODULES {
        let reply = match module.name {
            "archive_manifest" => {
                let flags =
                    json!({"_ansible_check_mode": true, "_ansible_diff": true, "src": archive});
                let reply = run_program(&binary(module.name), &flags, None);
                reply.kept_to_documentation(module.name).changed()
            }
            "release_activate" => root.check(module.name, json!({"version": "4"})).changed(),
            "release_copy" => {
                let src = root.at("src").display().to_string();
                root.check(module.name, json!({"version": "4", "src": src})).changed()
            }
            "release_info" => root.check(module.name, json!({})).unchanged(),
            "release_link" => {
                let shared = json!({"version": "4", "shared_paths": ["var"]});
                root.check(module.name, shared).changed()
            }
            "release_prune" => root.check(module.name, json!({"keep": 1})).changed(),
            "release_rollback" => root.check(module.name, json!({})).changed(),
            "release_setup" => root.check(module.name, json!({"version": "5"})).changed(),
            "release_unpack" => {
                let src = json!({"version": "4", "src": archive, "remote_src": true});
                root.check(module.name, src).changed()
            }
            "magento_cache" => shop.check(module.name, json!({"state": "flushed"})).changed(),
            "magento_cron" => shop.check(module.name, json!({"state": "held"})),
            "magento_consumers" => shop.check(module.name, json!({"state": "held"})),
            "magento_maintenance" => shop.check(module.name, json!({"state": "raised"})).changed(),
            "magento_status" => shop.check(module.name, json!({})).unchanged(),
            "magento_upgrade" => shop.check(module.name, json!({})).changed(),
            // Without a php-fpm it fails; its own tests have one.
            "php_fpm" => root.check(module.name, json!({"deploy_to": null, "state": "reloaded"})),
            // A new one, whose own tests say what it answers.
            _ => root.check(module.name, json!({})),
        };
        drop(reply);
    }
}
