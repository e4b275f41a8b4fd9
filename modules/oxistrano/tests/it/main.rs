//! The shipped program: every module under its name, however it is called.

use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use oxistrano_harness::{json, Reply, Root, Value};

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
