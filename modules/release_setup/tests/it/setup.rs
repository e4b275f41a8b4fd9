//! `release_setup`: directories, and the beginning and the end of a deploy.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};

use oxistrano_harness::{
    Manifest, NOBODY, Reply, Root, Value, app, binary, is_root, json, not_checked, run_program,
};

fn start(version: &str) -> Value {
    json!({"version": version, "shared_paths": ["var/log", "pub/media"],
           "shared_files": ["app/etc/env.php", ".env"]})
}

fn state(version: &str, state: &str) -> Value {
    json!({"version": version, "state": state})
}

#[test]
fn check_mode_changes_nothing_on_a_fresh_root() {
    let root = Root::fresh();
    let reply = root.check("release_setup", start("1")).changed();
    reply.says(["would start the deploy of 1"]);
    let after = reply["diff"]["after"].as_str().unwrap();
    for line in ["releases: directory", "shared/var/log: directory", "lock: deploy of 1"] {
        assert!(after.contains(line), "{reply}");
    }
    assert_eq!(reply["release_path"], root.at("releases/1").to_str().unwrap());
}

#[test]
fn check_mode_changes_nothing_on_an_existing_root() {
    let root = Root::with(&["1"]);
    root.begin("2", &app("2"), &json!({}));
    for moment in ["started", "finished", "failed", "unlocked"] {
        let _ = root.check("release_setup", state("2", moment)).changed();
    }
    let _ = root.run("release_setup", state("2", "finished")).changed();
    for moment in ["finished", "failed", "unlocked"] {
        let _ = root.check("release_setup", state("2", moment)).unchanged();
    }
}

#[test]
fn the_first_run_makes_the_directories_and_a_second_leaves_them_alone() {
    let root = Root::fresh();
    let reply = root.run("release_setup", start("1")).changed();
    assert_eq!(
        root.content().paths(),
        [
            "releases",
            "shared",
            "shared/app",
            "shared/app/etc",
            "shared/pub",
            "shared/pub/media",
            "shared/var",
            "shared/var/log"
        ]
    );
    for (key, path) in [
        ("releases_path", "releases"),
        ("shared_path", "shared"),
        ("current_path", "current"),
        ("staging_path", "releases/.oxistrano-staging"),
    ] {
        assert_eq!(reply[key], root.at(path).to_str().unwrap());
    }
    let before = root.content();
    let _ = root.run("release_setup", start("1"));
    before.assert_same(&root.content());
}

#[test]
fn a_deploy_root_is_made_with_the_directories_above_it() {
    let root = Root::fresh();
    let deep = root.beside("srv/www/shop");
    let mut arguments = start("1");
    arguments["deploy_to"] = deep.to_str().into();
    arguments["releases_dir"] = "var/releases".into();
    arguments["shared_dir"] = "var/shared".into();
    let _ = root.run("release_setup", arguments).changed();
    assert!(deep.join("var/releases").is_dir() && deep.join("var/shared/pub/media").is_dir());
}

#[test]
fn a_version_is_made_of_the_time_when_none_is_given() {
    let root = Root::fresh();
    let reply = root.run("release_setup", json!({})).changed();
    let version = reply["version"].as_str().unwrap();
    assert!(version.len() == 15 && version.starts_with("20") && version.ends_with('Z'), "{reply}");
    assert_eq!(root.lock()["version"], version);
}

#[test]
fn shared_directories_are_not_made_when_that_is_not_wanted() {
    let root = Root::fresh();
    let mut arguments = start("1");
    arguments["ensure_shared_paths"] = "no".into();
    arguments["ensure_shared_file_dirs"] = "no".into();
    let _ = root.run("release_setup", arguments).changed();
    assert_eq!(root.content().paths(), ["releases", "shared"]);
}

#[test]
fn an_empty_staging_directory_is_made_on_request() {
    let root = Root::fresh();
    let reply = root.run("release_setup", json!({"version": "1", "staging": true})).changed();
    let staging = reply["staging_path"].as_str().unwrap();
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
    fs::write(format!("{staging}/old"), "").unwrap();
    let _ = root.run("release_setup", json!({"version": "1", "staging": true})).changed();
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
    let _ = root.run("release_setup", state("1", "finished")).changed();
    assert_eq!(root.releases(), [""; 0]);
}

#[test]
fn shared_paths_with_dots_are_refused() {
    let root = Root::fresh();
    for path in ["../outside", "a/../../b", "/etc", "."] {
        for option in ["shared_paths", "shared_files"] {
            let mut arguments = json!({"version": "1"});
            arguments[option] = json!([path]);
            let reply = root.run("release_setup", arguments).failed("invalid_arguments");
            reply.says([option, path]);
        }
    }
    assert!(!root.path().exists());
}

#[test]
fn a_shared_file_where_a_directory_has_to_be_is_refused_before_anything_is_made() {
    let root = Root::new();
    root.write("shared/var", "a file");
    let before = root.content();
    let arguments = json!({"version": "1", "shared_paths": ["media", "var"]});
    let reply = root.run("release_setup", arguments).failed("not_a_directory");
    reply.says(["shared/var'", "a file has that name", "move it away", "Nothing was changed."]);
    before.assert_same(&root.content());
    assert_eq!(root.lock(), Value::Null);
}

#[test]
fn a_file_on_the_way_to_a_shared_directory_is_refused_and_the_lock_is_free() {
    let root = Root::new();
    root.write("shared/var", "a file");
    let arguments = json!({"version": "1", "shared_paths": ["var/log"]});
    let reply = root.run("release_setup", arguments);
    assert_eq!(reply["failed"], true, "{reply}");
    reply.says(["shared/var"]);
    assert_eq!(root.lock(), Value::Null);
    assert_eq!(root.read("shared/var"), "a file");
}

#[test]
fn shared_may_be_a_link_of_root_to_another_place() {
    let root = Root::new();
    fs::create_dir(root.beside("elsewhere")).unwrap();
    fs::remove_dir(root.at("shared")).unwrap();
    root.link("shared", "../elsewhere");
    let _ = root.run("release_setup", start("1")).changed();
    assert!(root.beside("elsewhere/pub/media").is_dir());
    assert_eq!(root.target("shared"), "../elsewhere");
}

#[test]
fn shared_that_is_a_link_of_another_user_is_refused() {
    if !is_root() {
        return not_checked("that a link 'shared' of another user is refused");
    }
    let root = Root::new();
    fs::create_dir(root.beside("elsewhere")).unwrap();
    fs::remove_dir(root.at("shared")).unwrap();
    root.link("shared", "../elsewhere");
    lchown(root.at("shared"), Some(NOBODY), Some(NOBODY)).unwrap();
    let reply = root.run("release_setup", start("1")).failed("untrusted_link");
    reply.says(["shared'", "symbolic link that belongs to user id 65534"]);
    assert_eq!(fs::read_dir(root.beside("elsewhere")).unwrap().count(), 0);
    assert_eq!(root.lock(), Value::Null);
}

#[test]
fn a_directory_that_may_not_be_written_is_named_with_the_remedy() {
    // As another user when root runs the tests, because root may always.
    let root = Root::with(&["1"]);
    let set_mode = |mode| {
        for directory in ["", ".oxistrano"] {
            fs::set_permissions(root.at(directory), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set_mode(0o555);
    let before = root.content();
    let reply = root.run_as(NOBODY, "release_setup", start("2")).failed("io");
    before.assert_same(&root.content());
    set_mode(0o755);
    reply.says(["Permission denied", "become", root.path().to_str().unwrap()]);
    assert_eq!(root.lock(), Value::Null);
}

#[test]
fn a_deploy_root_that_cannot_be_made_is_named() {
    let root = Root::fresh();
    fs::create_dir(root.beside("closed")).unwrap();
    fs::set_permissions(root.beside("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    let mut arguments = start("1");
    arguments["deploy_to"] = root.beside("closed/shop").to_str().into();
    let reply = root.run_as(NOBODY, "release_setup", arguments).failed("io");
    reply.says(["cannot create the directory", "closed/shop", "Nothing was changed."]);
}

#[test]
fn a_user_without_rights_may_not_deploy_where_root_does_and_says_so() {
    let root = Root::with(&["1"]);
    let before = Manifest::exact(&root.path());
    if !is_root() {
        return not_checked("that another user is kept out of root's deploy root");
    }
    let reply = root.run_as(NOBODY, "release_setup", start("2")).failed("io");
    reply.says(["Permission denied"]);
    before.assert_same(&Manifest::exact(&root.path()));
}

#[test]
fn another_user_can_deploy_to_a_root_of_his_own() {
    let root = Root::fresh();
    fs::create_dir(root.path()).unwrap();
    if is_root() {
        lchown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let _ = root.run_as(NOBODY, "release_setup", start("1")).changed();
    let _ = root.run_as(NOBODY, "release_setup", state("1", "finished")).changed();
    assert_eq!(root.owner("shared/pub/media"), root.owner(""));
}

#[test]
fn shared_directories_that_are_made_belong_to_whom_they_are_for() {
    if !oxistrano_harness::is_root() {
        return oxistrano_harness::not_checked("the owner of shared directories");
    }
    let root = Root::fresh();
    std::fs::create_dir_all(root.at("shared/there")).unwrap();
    let arguments = json!({
        "version": "1", "shared_owner": "nobody", "shared_group": "65534",
        "shared_paths": ["var", "pub/media", "there/below"],
    });
    let _ = root.run("release_setup", arguments).changed();
    for path in ["shared/var", "shared/pub", "shared/pub/media", "shared/there/below"] {
        assert_eq!(root.owner(path), (65534, 65534), "{path}");
    }
    for path in ["shared", "shared/there", "releases", ".oxistrano"] {
        assert_eq!(root.owner(path), (0, 0), "{path}");
    }
    let unknown = json!({"version": "2", "shared_owner": "nobody-at-all"});
    let _ = Root::fresh().run("release_setup", unknown).failed("no_such_user");
}

/// Makes the directories of a deploy root as a umask of 002 leaves them: for a group, here that of NOBODY.
fn for_a_team(root: &Root) {
    for path in ["", ".oxistrano", "releases", "shared"] {
        fs::create_dir_all(root.at(path)).unwrap();
        lchown(root.at(path), None, Some(NOBODY)).unwrap();
        fs::set_permissions(root.at(path), fs::Permissions::from_mode(0o775)).unwrap();
    }
}

/// Runs the module as a user of that group.
#[track_caller]
fn run_in_team(root: &Root, user: u32, mut arguments: Value) -> Reply {
    let program = root.beside("release_setup");
    fs::copy(fs::canonicalize(binary("release_setup")).unwrap(), &program).unwrap();
    let wrapper = root.beside("wrapper");
    let program = program.display();
    let text = format!(
        "#!/bin/sh\numask 002\n\
         exec setpriv --reuid={user} --regid={NOBODY} --clear-groups {program} - < \"$1\"\n"
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    arguments["deploy_to"] = root.path().to_str().into();
    run_program(&wrapper, &arguments, None)
}

#[test]
fn users_who_share_the_root_by_its_group_deploy_one_after_the_other() {
    if !is_root() {
        return oxistrano_harness::not_checked("a deploy root of several users");
    }
    let root = Root::fresh();
    for_a_team(&root);
    // Made when it was still one user's.
    fs::write(root.at(".oxistrano/mutex"), "").unwrap();
    lchown(root.at(".oxistrano/mutex"), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(root.at(".oxistrano/mutex"), fs::Permissions::from_mode(0o600)).unwrap();
    for (version, user) in [("1", NOBODY), ("2", 1), ("3", NOBODY)] {
        let _ = run_in_team(&root, user, start(version)).changed();
        let _ = run_in_team(&root, user, state(version, "failed")).changed();
    }
    assert_eq!(root.mode(".oxistrano/mutex"), 0o660);
    assert_eq!(root.mode(".oxistrano/history.jsonl"), 0o660);
}

#[test]
fn where_the_group_may_not_write_nothing_is_opened_for_it() {
    let root = Root::fresh();
    let _ = root.run("release_setup", start("1")).changed();
    assert_eq!(root.mode(".oxistrano/mutex"), 0o600);
    assert_eq!(root.mode(".oxistrano/history.jsonl"), 0o640);
}

#[test]
fn whoever_may_not_write_there_is_told_the_directory_and_the_state() {
    if !is_root() {
        return oxistrano_harness::not_checked("a deploy by a user who may not");
    }
    let root = Root::new();
    let denied = root.run_as(NOBODY, "release_setup", start("2")).failed("io");
    denied.says([
        "Permission denied; run as a user who has the permission (become)",
        "Nothing was deployed.",
    ]);
    // The root is theirs, what is shared belongs to another.
    let root = Root::fresh();
    for_a_team(&root);
    fs::set_permissions(root.at("shared"), fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = json!({"version": "1", "shared_paths": ["var"]});
    let denied = root.run_as(NOBODY, "release_setup", arguments).failed("io");
    let shared = root.at("shared");
    denied.says([
        &*format!("cannot write into the directory '{}': Permission denied", shared.display()),
        "The lock is free again",
    ]);
    assert_eq!(denied.value()["path"], shared.to_str().unwrap());
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_not_the_end() {
    let root = Root::with(&["1"]);
    let before = root.content();
    let mut arguments = start("2");
    arguments["deploy_to"] = root.path().to_str().into();
    fs::write(root.beside("arguments"), arguments.to_string()).unwrap();
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--fsize=0").arg(oxistrano_harness::binary("release_setup"));
    let output = limited.arg(root.beside("arguments")).output().expect("prlimit");
    let reply = oxistrano_harness::Reply::of(&output).failed("io");
    reply.says(["cannot write", "File too large"]);
    before.assert_same(&root.content());
    assert_eq!(root.lock(), Value::Null);
}

#[test]
fn more_in_the_trash_than_one_command_line_can_name_goes_too() {
    let root = Root::with(&["1"]);
    for number in 0..9_000 {
        let name = format!("releases/.oxistrano-trash-{}.{number}", "x".repeat(220));
        fs::create_dir(root.at(name)).unwrap();
    }
    let reply = root.run("release_setup", start("2")).changed();
    reply.has_no_warnings();
    assert_eq!(root.releases(), ["1"]);
}

#[test]
fn neither_a_failed_deploy_nor_the_next_one_removes_a_release_in_which_a_command_runs() {
    let root = Root::with(&["1"]);
    root.begin("2", &app("2"), &json!({}));
    let running = root.busy("2");
    let reply = root.run("release_setup", json!({"version": "2", "state": "failed"})).changed();
    reply.warns("releases/2' was not removed, because a command is running in it");
    assert!(root.has("releases/2/index.php") && reply["removed"].is_null(), "{reply}");
    let reply = root.run("release_setup", json!({"version": "3"})).changed();
    reply.warns("releases/2' was not removed, because a command is running in it");
    assert!(root.has("releases/2/index.php"), "{reply}");
    let _ = root.run("release_setup", json!({"version": "3", "state": "failed"})).changed();
    drop(running);
    let _ = root.run("release_setup", json!({"version": "4"})).changed();
    assert!(!root.has("releases/2"));
}
