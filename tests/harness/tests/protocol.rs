//! The protocol, for every module: what Ansible may pass, and what it gets back.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use oxistrano_harness::{Manifest, Reply, Root, Value, binary, json, run_program};

/// The modules of a family, by the beginning of their names.
fn modules(family: &str) -> impl Iterator<Item = &'static str> + '_ {
    let names = oxistrano::MODULES.iter().map(|module| module.name);
    names.filter(move |name| name.starts_with(family))
}

/// Arguments with which a module runs, in check mode, without a deploy root.
fn arguments(module: &str, root: &Root) -> Value {
    let mut arguments = json!({
        "deploy_to": root.path().to_str(),
        "_ansible_check_mode": true,
    });
    match module {
        "release_unpack" => {
            let src =
                root.archive("app.tar", &oxistrano_harness::tar(&oxistrano_harness::app("1")));
            arguments["version"] = "1".into();
            arguments["src"] = src.into();
        }
        "release_setup" | "release_copy" | "release_link" | "release_activate" => {
            arguments["version"] = "1".into();
        }
        _ => {}
    }
    arguments
}

fn probe() -> PathBuf {
    env!("CARGO_BIN_EXE_oxistrano-probe").into()
}

fn with_stdin(program: &Path, argument: Option<&str>, input: &[u8]) -> Output {
    let mut command = Command::new(program);
    command.args(argument).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A module that does not read it closes it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn every_module_runs_with_arguments_in_a_file_and_on_stdin() {
    for module in modules("release_") {
        let root = Root::fresh();
        let arguments = arguments(module, &root);
        let by_file = run_program(&binary(module), &arguments, None);
        let output = with_stdin(&binary(module), Some("-"), arguments.to_string().as_bytes());
        assert_eq!(by_file.value(), Reply::of(&output).value(), "{module}");
        if module != "release_rollback" {
            assert_ne!(by_file["failed"], true, "{module}: {by_file}");
        }
        assert!(!root.path().exists(), "{module} has made the deploy root in check mode");
    }
}

#[test]
fn every_module_refuses_an_unknown_option_and_names_the_nearest() {
    for module in modules("release_") {
        let root = Root::fresh();
        let mut arguments = arguments(module, &root);
        arguments["deply_to"] = "/srv".into();
        let reply = run_program(&binary(module), &arguments, None).failed("invalid_arguments");
        reply.says([module, "there is no option deply_to (did you mean deploy_to?)"]);
        reply.says(["Nothing was changed."]);
    }
}

#[test]
fn every_module_of_magento_refuses_what_it_does_not_know_and_says_what_it_needs() {
    for module in modules("magento_") {
        let arguments = json!({"deply_to": "/srv", "usr": "www-data", "wiat": 1, "pats": [], "state": 7, "how": "no"});
        let reply = run_program(&binary(module), &arguments, None).failed("invalid_arguments");
        let problems = reply["problems"].as_array().unwrap().clone();
        assert!(problems.len() >= 4, "{module}: {reply}");
        reply.says([module, "did you mean", " is required", "Nothing was changed."]);
        for text in ["", "[1]", "{} {}", "null"] {
            let output = with_stdin(&binary(module), Some("-"), text.as_bytes());
            let _ = Reply::of(&output).failed("usage");
        }
        let output = with_stdin(&binary(module), None, b"");
        Reply::of(&output).failed("usage").says([module, "is an Ansible module"]);
    }
}

#[test]
fn every_module_lists_its_options_when_none_is_near() {
    for module in modules("release_") {
        let root = Root::fresh();
        let mut arguments = arguments(module, &root);
        arguments["xyzzy"] = 1.into();
        let reply = run_program(&binary(module), &arguments, None).failed("invalid_arguments");
        reply.says(["there is no option xyzzy (there are: ", "deploy_to", "shared_dir"]);
    }
}

#[test]
fn every_module_reports_all_problems_at_once() {
    for module in modules("release_") {
        let arguments = json!({
            "deploy_to": "relative/path",
            "releases_dir": ["no", "list"],
            "current_dir": {"no": "dictionary"},
            "sharred_dir": "shared",
        });
        let reply = run_program(&binary(module), &arguments, None).failed("invalid_arguments");
        let problems = reply["problems"].as_array().unwrap().clone();
        assert!(problems.len() >= 3, "{module}: {reply}");
        reply.says(["releases_dir", "current_dir", "did you mean shared_dir?"]);
    }
}

#[test]
fn every_module_refuses_paths_that_leave_the_deploy_root() {
    for module in modules("release_") {
        let root = Root::fresh();
        for (option, path) in [
            ("releases_dir", "../elsewhere"),
            ("shared_dir", "/var/shared"),
            ("current_dir", "a/../../b"),
            ("deploy_to", "srv/shop"),
            ("deploy_to", "/srv/../etc"),
        ] {
            let mut arguments = arguments(module, &root);
            arguments[option] = path.into();
            let reply = run_program(&binary(module), &arguments, None).failed("invalid_arguments");
            reply.says([option, path]);
        }
    }
}

#[test]
fn every_module_refuses_the_root_of_the_file_system_and_a_file_as_deploy_root() {
    for module in modules("release_") {
        let root = Root::fresh();
        let mut arguments = arguments(module, &root);
        arguments["_ansible_check_mode"] = false.into();
        arguments["deploy_to"] = "/".into();
        let before = Manifest::exact(&root.beside(""));
        let reply = run_program(&binary(module), &arguments, None).failed("bad_deploy_root");
        reply.says(["the file system's root cannot be a deploy root", "Nothing was changed."]);
        before.assert_same(&Manifest::exact(&root.beside("")));

        let file = root.archive("a file", b"precious");
        arguments["deploy_to"] = file.as_str().into();
        let before = Manifest::exact(&root.beside(""));
        let reply = run_program(&binary(module), &arguments, None).failed("bad_deploy_root");
        reply.says([file.as_str(), "it is a file, not a directory", "Nothing was changed."]);
        before.assert_same(&Manifest::exact(&root.beside("")));
    }
}

#[test]
fn every_module_ignores_settings_of_ansible_that_it_does_not_know() {
    for module in modules("release_") {
        let root = Root::fresh();
        let mut arguments = arguments(module, &root);
        let plain = run_program(&binary(module), &arguments, None);
        for (key, value) in [
            ("_ansible_no_log", json!(false)),
            ("_ansible_verbosity", json!(4)),
            ("_ansible_version", json!("9.9.9")),
            ("_ansible_remote_tmp", json!("~/.ansible/tmp")),
            ("_ansible_from_the_future", json!({"what": ["ever", null]})),
            ("_ansible_debug", json!("yes")),
        ] {
            arguments[key] = value;
        }
        let reply = run_program(&binary(module), &arguments, None);
        assert_eq!(plain.value(), reply.value(), "{module}");
        assert!(!reply.value().to_string().contains("_ansible_"), "{reply}");
    }
}

#[test]
fn every_module_says_what_is_wrong_with_its_arguments_file() {
    for module in modules("release_") {
        let program = binary(module);
        let scratch = Root::fresh();
        let missing = scratch.beside("missing");
        let output = Command::new(&program).arg(&missing).output().unwrap();
        Reply::of(&output).failed("usage").says(["cannot read the module's arguments"]);

        for (text, why) in [
            ("", "not JSON"),
            ("{\"deploy_to\": ", "not JSON"),
            ("deploy_to=/srv", "not JSON"),
            ("{} {}", "not JSON"),
            ("[1, 2]", "not a JSON object"),
            ("null", "not a JSON object"),
            ("\"text\"", "not a JSON object"),
        ] {
            let file = scratch.archive("args", text.as_bytes());
            let output = Command::new(&program).arg(&file).output().unwrap();
            Reply::of(&output).failed("usage").says([why]);
            let output = with_stdin(&program, Some("-"), text.as_bytes());
            Reply::of(&output).failed("usage").says([why]);
        }
        let file = scratch.archive("args", b"{\"deploy_to\": \"\xff\xfe\"}");
        let output = Command::new(&program).arg(&file).output().unwrap();
        Reply::of(&output).failed("usage").says(["not JSON"]);

        let output = with_stdin(&program, None, b"");
        Reply::of(&output).failed("usage").says([module, "is an Ansible module"]);
    }
}

#[test]
fn every_module_shows_the_converted_arguments_with_their_defaults() {
    for module in modules("release_") {
        let root = Root::fresh();
        let reply = run_program(&binary(module), &arguments(module, &root), None);
        let shown = &reply["invocation"]["module_args"];
        assert_eq!(shown["deploy_to"], root.path().to_str().unwrap(), "{module}");
        assert_eq!(shown["releases_dir"], "releases", "{module}");
    }
}

#[test]
fn booleans_lists_and_numbers_may_come_as_strings_and_numbers_as_names() {
    let root = Root::fresh();
    for (yes, no) in [("yes", "no"), ("on", "off"), ("True", "False"), ("1", "0"), ("y", "n")] {
        let arguments = json!({
            "path": root.path().to_str(),
            "version": 20_260_824,
            "shared_paths": "var, pub/media",
            "ensure_shared_paths": yes,
            "staging": no,
            "_ansible_check_mode": true,
            "_ansible_diff": true,
        });
        let reply = run_program(&binary("release_setup"), &arguments, None).changed();
        let shown = &reply["invocation"]["module_args"];
        assert_eq!(shown["shared_paths"], json!(["var", "pub/media"]));
        assert_eq!(
            (&shown["ensure_shared_paths"], &shown["staging"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(reply["version"], "20260824");
        let after = reply["diff"]["after"].as_str().unwrap();
        assert!(after.contains("shared/var: directory\n"), "{reply}");
    }
    let arguments = json!({"deploy_to": root.path().to_str(), "keep": "5", "wait": "maybe"});
    let reply = run_program(&binary("release_prune"), &arguments, None).failed("invalid_arguments");
    reply.says(["wait: 'maybe' cannot be converted to bool"]);
}

#[test]
fn a_choice_that_there_is_not_is_answered_with_those_that_there_are() {
    let root = Root::fresh();
    let arguments = json!({"version": "1", "current_via": "hardlink"});
    let reply = root.run("release_activate", arguments).failed("invalid_arguments");
    reply.says(["current_via: 'hardlink' is not one of symlink, rsync"]);
}

#[test]
fn versions_that_are_no_directory_name_are_refused() {
    let root = Root::new();
    let before = root.content();
    for version in ["", ".", "..", "a/b", ".hidden", "../../etc", "a\nb"] {
        for module in ["release_setup", "release_link", "release_activate"] {
            let _ = root.run(module, json!({"version": version})).failed("invalid_arguments");
        }
    }
    before.assert_same(&root.content());
}

#[test]
fn a_diff_comes_only_when_it_is_asked_for() {
    let root = Root::fresh();
    let reply = root.run("release_setup", json!({"version": "1"})).changed();
    assert!(reply["diff"].is_null(), "{reply}");
    let arguments = json!({"version": "1", "_ansible_diff": true});
    let reply = root.run("release_setup", arguments).changed();
    assert!(reply["diff"]["after"].as_str().unwrap().contains("lock: deploy of 1"), "{reply}");
}

#[test]
fn a_panic_ends_in_one_json_object_and_nothing_on_stderr() {
    let reply = run_program(&probe(), &json!({"act": "panic"}), None).failed("panic");
    reply.says([
        "probe stopped because of a bug",
        "the probe was told to panic",
        "probe.rs",
        "report",
    ]);
    let reply = run_program(&probe(), &json!({"act": "panic_in_thread"}), None).failed("panic");
    reply.says(["a thread of the probe panics", "probe.rs", "report"]);
}

#[test]
fn a_panic_does_not_give_a_secret_away() {
    let arguments = json!({"act": "panic", "password": "s3cret-word"});
    let reply = run_program(&probe(), &arguments, None).failed("panic");
    assert!(!reply.value().to_string().contains("s3cret-word"), "{reply}");
    let reply = run_program(&probe(), &json!({"password": "s3cret-word"}), None).unchanged();
    assert!(!reply.value().to_string().contains("s3cret-word"), "{reply}");
}

#[test]
fn each_signal_ends_a_module_with_one_json_object() {
    for (signal, name) in [("TERM", "SIGTERM"), ("INT", "SIGINT"), ("HUP", "SIGHUP")] {
        let mut command = Command::new(probe());
        command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"{\"act\": \"wait\"}").unwrap();
        // The handlers are the first thing that it installs; give it the time.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let kill = Command::new("sh")
            // The shell's own: a small system has no other.
            .args(["-c", &format!("kill -s {signal} {}", child.id())])
            .status();
        assert!(kill.unwrap().success());
        let reply = Reply::of(&child.wait_with_output().unwrap()).failed("interrupted");
        reply.says([name]);
    }
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let mut command = Command::new(probe());
    command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(b"{}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
