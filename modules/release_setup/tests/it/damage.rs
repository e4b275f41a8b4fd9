//! A history in which lines cannot be read: nothing is removed for what may have stood there.

use std::fs;

use oxistrano_harness::{Root, app, json, tar_gz};

type Damage = (&'static str, fn(&str) -> String);

/// What becomes of the line that says that release 1 is live.
const DAMAGES: [Damage; 5] = [
    ("NULs", |line| "\0".repeat(line.len())),
    ("a cut line", |line| line[..line.len() / 2].to_owned()),
    ("the end of a line", |line| line[line.len() / 2..].to_owned()),
    ("no JSON", |_| "<<<<<<< HEAD".to_owned()),
    ("an event of a newer Oxistrano", |line| line.replace("activated", "promoted")),
];

/// Damages the line with this event of a release; its number.
fn damage(root: &Root, version: &str, event: &str, how: impl Fn(&str) -> String) -> usize {
    let path = root.at(".oxistrano/history.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let is_it = |line: &str| {
        line.contains(&format!(r#""version":"{version}""#))
            && line.contains(&format!(r#""{event}""#))
    };
    let number = text.lines().position(is_it).expect("that event") + 1;
    let lines = text.lines().map(|line| if is_it(line) { how(line) } else { line.to_owned() });
    let text: String = lines.map(|line| line + "\n").collect();
    fs::write(path, text).unwrap();
    number
}

fn begin(root: &Root, version: &str) -> oxistrano_harness::Reply {
    root.run("release_setup", json!({"version": version})).changed()
}

fn give_up(root: &Root) -> oxistrano_harness::Reply {
    root.run("release_setup", json!({"state": "failed"}))
}

#[test]
fn a_good_release_stays_when_its_line_is_damaged_and_the_line_is_named() {
    for (what, how) in DAMAGES {
        let root = Root::with(&["1", "2", "3"]);
        let number = damage(&root, "1", "activated", how);
        let named = format!("line {number} of '{}'", root.at(".oxistrano/history.jsonl").display());
        for reply in [
            root.check("release_setup", json!({"version": "4"})).changed(),
            begin(&root, "4"),
            give_up(&root),
            root.run("release_prune", json!({"keep": 1})),
            root.run("release_info", json!({})),
        ] {
            reply.warns(&named);
            reply.warns("Write the event again");
            assert!(!reply.to_string().contains("\\u0000"), "{what}: {reply}");
        }
        assert_eq!(root.releases(), ["1", "2", "3"], "{what}");
        assert_eq!(root.state("1"), "unrecognised", "{what}");
        let reply =
            root.run("release_rollback", json!({"version": "1"})).failed("cannot_roll_back");
        reply.says(["it is not known whether release 1 was ever live", &named]);
    }
}

#[test]
fn what_is_deployed_after_the_damage_goes_when_its_time_comes() {
    let root = Root::with(&["1", "2"]);
    damage(&root, "1", "activated", DAMAGES[0].1);
    for version in ["3", "4", "5"] {
        root.deploy(version);
    }
    root.begin("6", &app("6"), &json!({}));
    assert_eq!(root.releases(), ["1", "2", "3", "4", "5", "6"]);
    // Before its switch: removed by the next setup, as always.
    let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
    assert_eq!(begin(&root, "7")["removed_broken"], json!(["6"]));
    let _ = give_up(&root);
    let reply = root.run("release_prune", json!({"keep": 2, "wait": true})).changed();
    assert_eq!(reply["removed"], json!(["3", "2"]));
    assert_eq!(root.releases(), ["1", "4", "5"]);
    // Who names it knows it.
    let _ = root.run("release_prune", json!({"versions": ["1"], "wait": true})).changed();
    assert_eq!(root.releases(), ["4", "5"]);
}

#[test]
fn once_the_line_is_put_right_or_deleted_all_is_as_always() {
    let root = Root::with(&["1", "2", "3"]);
    let path = root.at(".oxistrano/history.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    damage(&root, "1", "activated", DAMAGES[1].1);
    let damaged = fs::read_to_string(&path).unwrap();
    fs::write(&path, &whole).unwrap();
    begin(&root, "4").has_no_warnings();
    let _ = give_up(&root);
    assert_eq!(root.state("1"), "complete");
    let whole: Vec<_> = whole.lines().collect();
    let rest = damaged.lines().filter(|line| whole.contains(line));
    fs::write(&path, rest.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    assert_eq!(begin(&root, "4")["removed_broken"], json!(["1"]));
}

#[test]
fn a_line_that_a_power_failure_has_cut_off_at_the_end_counts_as_well() {
    let root = Root::with(&["1", "2"]);
    let path = root.at(".oxistrano/history.jsonl");
    let text = fs::read(&path).unwrap();
    // The end of 2's deploy.
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    begin(&root, "3").warns("cannot be read");
    let _ = give_up(&root);
    root.run("release_prune", json!({"keep": 1})).unchanged().warns("cannot be read");
    assert_eq!(root.releases(), ["1", "2"]);
}

#[test]
fn a_release_that_was_left_stays_when_a_line_may_have_gone_back_to_it() {
    let root = Root::with(&["1", "2", "3"]);
    for version in ["2", "3"] {
        let _ = root.run("release_rollback", json!({"version": version})).changed();
    }
    assert_eq!(root.state("2"), "rolled_back");
    // 3 was left for 2, then 2 for 3: without the second, 3 is the one that was left.
    damage(&root, "2", "rolled_back", DAMAGES[0].1);
    root.run("release_prune", json!({"keep": 1})).unchanged().warns("cannot be read");
    assert_eq!(root.releases(), ["1", "2", "3"]);
}

#[test]
fn a_release_that_was_replaced_is_not_put_back_for_a_line_that_cannot_be_read() {
    let root = Root::with(&["1"]);
    let _ = begin(&root, "1");
    let src = root.archive("1.tar.gz", &tar_gz(&app("1")));
    let _ = root
        .run(
            "release_unpack",
            json!({"version": "1", "src": src, "remote_src": true, "force": true, "revision": "anew"}),
        )
        .changed();
    // It is live already, and only noted.
    let _ = root.run("release_activate", json!({"version": "1"})).unchanged();
    let path = root.at(".oxistrano/history.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    // Of the second deploy, which is live and not yet finished.
    let activated = text.lines().rfind(|line| line.contains("activated"));
    let last = activated.and_then(|it| text.lines().position(|line| line == it)).unwrap();
    let lines = text.lines().enumerate();
    let kept = lines.map(|(n, line)| if n == last { "\0\0\n".into() } else { format!("{line}\n") });
    fs::write(&path, kept.collect::<String>()).unwrap();
    let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
    begin(&root, "2").warns("cannot be read");
    assert_eq!(root.read("current/REVISION"), "anew");
}
