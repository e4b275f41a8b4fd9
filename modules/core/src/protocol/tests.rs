use super::*;
use crate::mask::HIDDEN_PARAMETER;
use crate::module::{Documentation, Module, Outcome};
use crate::options::{Constraint, Literal};

crate::options! {
    /// For the tests.
    struct Example {
        /// A path.
        deploy_to: std::path::PathBuf, aliases = &["root"];
        /// A number.
        keep: u32, default = Some(Literal::Number(5));
        /// A secret.
        password: Option<String>, no_log = true;
        /// A list.
        paths: Vec<String>;
        /// A list that makes a difference when it is empty.
        allowed: Option<Vec<String>>;
        /// Decides what else is needed.
        fast: bool, default = Some(Literal::Flag(false));
        /// The action plugin's.
        holder: Option<String>, internal = true;
        /// The same letters as another.
        path: Option<String>;
    }
    constraints: [
        Constraint::RequiredBy("password", &["paths"]),
        Constraint::RequiredIf("fast", "true", &["allowed"]),
        Constraint::RequiredIf("keep", "5", &["deploy_to"]),
    ];
}

#[test]
fn what_follows_the_arguments_stays_for_the_module() {
    for (text, rest) in [
        ("{\"a\": \"}\"}\n{\"b\": 1}", "\n{\"b\": 1}"),
        ("{\n \"a\": [1, 2]\n}\n\n", "\n\n"),
        ("{}", ""),
    ] {
        let mut input = text.as_bytes();
        assert!(first_value(&mut input).unwrap().is_object());
        assert_eq!(input, rest.as_bytes());
    }
    for wrong in ["", "{", "no JSON"] {
        assert!(first_value(&mut wrong.as_bytes()).is_err());
    }
}

struct Probe;
impl Module for Probe {
    type Options = Example;
    const NAME: &'static str = "probe";
    const DOCUMENTATION: Documentation = Documentation::NONE;
    fn run(options: Example, context: &Context) -> Result<Outcome, Failure> {
        Ok(Outcome::new(!context.check_mode)
            .value("keep", options.keep)
            .value("allowed", options.allowed)
            .value("others", json!([options.fast, options.holder, options.path]))
            .value("paths", options.paths)
            .msg(format!("{} {:?}", options.deploy_to.display(), options.password)))
    }
}

fn run(arguments: Value) -> Map<String, Value> {
    match arguments {
        Value::Object(map) => execute(&Callee::of::<Probe>(), map),
        _ => unreachable!(),
    }
}

#[test]
fn defaults_aliases_and_settings_are_understood() {
    let result = run(json!({"root": "/srv", "_ansible_check_mode": true, "_ansible_new_key": 1}));
    assert_eq!(result["changed"], json!(false));
    assert_eq!(result["keep"], json!(5));
    assert_eq!(result["invocation"]["module_args"]["deploy_to"], json!("/srv"));
    assert_eq!(result["invocation"]["module_args"]["keep"], json!(5));
}

#[test]
fn an_option_for_a_group_of_modules_may_be_unknown_to_one_of_them() {
    let mut arguments = json!({"deploy_to": "/srv", "keep": 3, "php": "php8.2"});
    assert_eq!(run(arguments.clone())["code"], json!("invalid_arguments"));
    arguments["_ansible_oxistrano_defaults"] = json!(["php", "keep"]);
    let result = run(arguments);
    assert_eq!((&result["keep"], result.get("failed")), (&json!(3), None));
    assert_eq!(result["invocation"]["module_args"].get("php"), None);
}

#[test]
fn an_optional_list_that_is_not_given_is_not_an_empty_one() {
    assert_eq!(run(json!({"deploy_to": "/srv"}))["allowed"], json!(null));
    assert_eq!(run(json!({"deploy_to": "/srv", "allowed": []}))["allowed"], json!([]));
}

#[test]
fn all_problems_are_reported_at_once() {
    let result = run(json!({"deply_to": "/srv", "keep": "many", "password": "s3cret"}));
    assert_eq!(result["failed"], json!(true));
    assert_eq!(
        result["problems"],
        json!([
            "there is no option deply_to (did you mean deploy_to?)",
            "password needs paths",
            "deploy_to is required",
            "keep: 'many' cannot be converted to int"
        ])
    );
    assert!(!Value::Object(result).to_string().contains("s3cret"));
}

#[test]
fn secrets_are_masked_in_results() {
    let result = run(json!({"deploy_to": "/srv", "password": "s3cret", "paths": "a"}));
    assert_eq!(result["msg"], json!("/srv Some(\"********\")"));
    assert_eq!(result["invocation"]["module_args"]["password"], json!(HIDDEN_PARAMETER));
}

#[test]
fn invocation_is_left_out_where_ansible_does_not_want_it() {
    let with =
        |wanted: Value| run(json!({"deploy_to": "/srv", "_ansible_inject_invocation": wanted}));
    assert_eq!(with(json!(true))["invocation"]["module_args"]["deploy_to"], json!("/srv"));
    assert_eq!(with(json!(false)).get("invocation"), None);
}

#[test]
fn no_log_values_are_reported_to_an_ansible_that_masks_them_and_to_no_other() {
    let told = |version: Value| {
        let mut arguments = json!({"deploy_to": "/srv", "password": "s3cr3t"});
        arguments["_ansible_version"] = version;
        run(arguments).get("_ansible_new_secrets").cloned()
    };
    for version in ["2.22.0rc1", "2.22.0", "2.23", "3.0"] {
        assert_eq!(told(json!(version)), Some(json!(["s3cr3t"])), "{version}");
    }
    for version in [json!("2.21.5"), json!("2.9.27"), json!("1.99"), json!("new"), json!(3)] {
        assert_eq!(told(version.clone()), None, "{version}");
    }
    let none = run(json!({"deploy_to": "/srv", "_ansible_version": "2.22.0"}));
    assert_eq!(none.get("_ansible_new_secrets"), None);
}

#[test]
fn what_looks_like_a_secret_is_masked_without_no_log() {
    let url = "https://bob:s3cr3t-word@example.com/x";
    let result = run(json!({"deploy_to": "/srv", "paths": [url, "DB_PASSWORD=an0ther"]}));
    assert_eq!(result["paths"][0], json!("https://bob:********@example.com/x"));
    let text = Value::Object(result).to_string();
    assert!(!text.contains("s3cr3t-word") && !text.contains("an0ther"), "{text}");
    let wrong = Value::Object(run(json!({"deploy_to": "/srv", "keep": url}))).to_string();
    assert!(!wrong.contains("s3cr3t-word"), "{wrong}");
}

#[test]
fn a_far_name_gets_the_list() {
    let result = run(json!({"deploy_to": "/srv", "zzz": 1}));
    assert_eq!(
        result["problems"][0],
        json!(
            "there is no option zzz (there are: allowed, deploy_to, fast, keep, password, path, \
             paths)"
        )
    );
}

#[test]
fn the_nearest_name_is_one_that_people_set_and_rather_the_longer_of_two() {
    for (given, meant) in
        [("pats", "paths"), ("pah", "path"), ("Keep", "keep"), ("to", "deploy_to")]
    {
        let result = run(json!({"deploy_to": "/srv", given: 1}));
        let problem = result["problems"][0].as_str().unwrap();
        assert!(problem.contains(&format!("did you mean {meant}?")), "{problem}");
    }
    let result = run(json!({"deploy_to": "/srv", "holders": 1}));
    assert!(!result["problems"][0].as_str().unwrap().contains("holder?"), "{result:?}");
}

#[test]
fn what_is_required_depends_on_what_an_option_is_in_the_end() {
    let problems = |arguments: Value| run(arguments).get("problems").cloned();
    assert_eq!(problems(json!({"deploy_to": "/srv", "fast": true, "allowed": []})), None);
    // A word for a boolean, and a default.
    let fast = json!(["allowed is required with fast=true"]);
    assert_eq!(problems(json!({"deploy_to": "/srv", "fast": "yes"})), Some(fast));
    let missing = problems(json!({})).unwrap();
    assert_eq!(missing, json!(["deploy_to is required", "deploy_to is required with keep=5"]));
    assert_eq!(problems(json!({"keep": 4})), Some(json!(["deploy_to is required"])));
}
