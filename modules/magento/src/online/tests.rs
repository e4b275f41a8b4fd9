use oxistrano_core::json::json;

use super::*;

/// Facts of an upgrade in which nothing is in the way.
fn facts() -> Value {
    json!({
        "blue_green": false, "amqp": false, "data_patches": [], "schema_patches": [], "versions": [], "scripts": [],
        "queues": [], "triggers": [], "themes": {"new": ["frontend/A/b"], "gone": []}, "emptied": ["x_tmp"],
        "import": {"deletes": [], "of_others": []},
        "changes": [
            {"operation": "create_table", "table": "new", "name": "new", "element": "table", "type": "table"},
            {"operation": "add_column", "table": "t", "name": "c", "element": "column", "type": "int",
             "nullable": true, "default": null, "identity": false, "fills": false},
        ],
        "servers": {"default": {"version": "10.11.8-MariaDB", "alter_algorithm": "DEFAULT", "scratch": "s"}},
        "tables": {"t": {"connection": "default", "engine": "InnoDB", "instant": true, "inplace": true}},
    })
}

fn obstacles_at(release: &Path, live: &Path, facts: &Value, allowed: &[&str]) -> Vec<String> {
    let pending = Pending(facts.as_object().unwrap().clone());
    let allowed: Vec<String> = allowed.iter().map(|&class| class.to_owned()).collect();
    Pair { pending: &pending, release, live, upgrade: true, allowed: &allowed, most: 1024 }
        .obstacles()
}

fn release() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bin")).unwrap();
    std::fs::write(root.path().join("bin/magento"), "").unwrap();
    std::fs::write(root.path().join("Recurring.php"), "1").unwrap();
    root
}

fn obstacles(facts: &Value) -> Vec<String> {
    let root = release();
    obstacles_at(root.path(), root.path(), facts, &[])
}

/// The facts with this in place of what is there.
fn with(pointer: &str, value: Value) -> Value {
    let mut facts = facts();
    let (above, name) = pointer.rsplit_once('/').unwrap();
    facts.pointer_mut(above).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
    facts
}

#[test]
fn what_only_adds_is_online() {
    assert_eq!(obstacles(&facts()), [""; 0]);
    let filled = with(
        "/changes",
        json!([{"operation": "add_column", "table": "t", "element": "column",
        "nullable": false, "default": 0}]),
    );
    assert_eq!(obstacles(&filled), [""; 0]);
}

#[test]
fn a_large_table_in_which_something_is_built_is_in_the_way() {
    let large = |instant: Value, bytes: Value| {
        let mut facts = facts();
        facts["tables"]["t"]["instant"] = instant;
        facts["tables"]["t"]["bytes"] = bytes;
        obstacles(&facts)
    };
    let says = "table t has 1025 MB, and the change would have to be built in it";
    // The server's numbers come as text.
    assert!(large(json!(false), json!("1074790400"))[0].starts_with(says));
    assert_eq!(large(json!(false), json!("1073741824")), [""; 0]);
    assert_eq!(large(json!(true), json!("1074790400")), [""; 0]);
    // Its own word, where the server was not asked: an index is built, a column is not.
    for (element, obstacles) in [("column", 0), ("index", 1)] {
        let change = json!({"table": "t", "element": element});
        let told = json!({"bytes": "1074790400"});
        assert_eq!(loads(&[&change], &told, 1024).into_iter().count(), obstacles);
        assert_eq!(loads(&[&change], &told, 0), None);
    }
}

#[test]
fn whatever_else_is_in_an_upgrade_is_in_the_way_and_named() {
    for (pointer, value, says) in [
        (
            "/unknown",
            json!({"changes": "no such class"}),
            "it is not known what the upgrade does (changes): no such class",
        ),
        ("/data_patches", json!(["A\\B"]), "data patch A\\B"),
        ("/schema_patches", json!(["A\\C"]), "schema patch A\\C"),
        (
            "/versions",
            json!([{"module": "A_B", "current": "1", "required": "2"}]),
            "setup_version of A_B changes from 1 to 2",
        ),
        (
            "/versions",
            json!([{"module": "A_B", "current": "none", "required": "2", "scripts": ["A\\B\\Setup\\InstallData"]}]),
            "setup script A\\B\\Setup\\InstallData",
        ),
        (
            "/scripts",
            json!([{"class": "A\\B\\Setup\\Recurring", "file": "Recurring.php"}]),
            "A\\B\\Setup\\Recurring, which runs",
        ),
        (
            "/scripts",
            json!([{"class": "Magento\\B\\Setup\\Recurring", "file": "gone.php"}]),
            "Magento\\B\\Setup\\Recurring, which",
        ),
        (
            "/scripts",
            json!([{"class": "Magento\\B\\Setup\\Recurring", "file": "/abs.php"}]),
            "Magento\\B\\Setup\\Recurring, which",
        ),
        ("/triggers", json!(["trg_x"]), "trigger trg_x"),
        ("/themes", json!({"new": [], "gone": ["frontend/A/b"]}), "theme frontend/A/b"),
        ("/emptied", json!(["sessions"]), "table sessions, which is an in-memory table"),
        ("/servers/default/alter_algorithm", json!("COPY"), "alter_algorithm is COPY"),
        ("/servers/default/old_alter_table", json!("ON"), "old_alter_table is ON"),
        ("/tables/t/engine", json!("MyISAM"), "its engine is MyISAM"),
        ("/tables/t/inplace", json!(false), "cannot be altered while it is used"),
        ("/tables/t/inplace", json!(null), "the server could not be asked"),
        ("/tables", json!({}), "its engine is "),
        ("/changes", json!([]), "it is not known why Magento needs an upgrade"),
    ] {
        let found = obstacles(&with(pointer, value));
        assert!(found.len() == 1 && found[0].contains(says), "{pointer}: {found:?}");
    }
    for part in PARTS {
        let mut facts = facts();
        facts.as_object_mut().unwrap().remove(part);
        assert!(!obstacles(&facts).is_empty(), "{part}");
    }
    let galaxy = with("/servers/default/wsrep_on", json!("ON"));
    assert_eq!(obstacles(&galaxy), [""; 0]);
    let mut slow = galaxy;
    slow["tables"]["t"]["instant"] = json!(false);
    assert!(obstacles(&slow)[0].contains("Galera"));
}

#[test]
fn every_change_that_is_not_known_to_add_is_in_the_way() {
    for (change, says) in [
        (
            json!({"operation": "add_column", "name": "c", "nullable": false, "default": null}),
            "the new column c of table t is NOT NULL and has no default",
        ),
        (
            json!({"operation": "add_column", "name": "c", "nullable": null}),
            "the new column c of table t is NOT NULL",
        ),
        (
            json!({"operation": "add_column", "name": "c", "nullable": true, "identity": true}),
            "an auto-increment column",
        ),
        (
            json!({"operation": "add_column", "name": "c", "nullable": true, "fills": true}),
            "data would be moved",
        ),
        (
            json!({"operation": "add_complex_element", "element": "constraint", "type": "unique", "name": "U"}),
            "(unique U)",
        ),
        (
            json!({"operation": "add_complex_element", "element": "constraint", "type": "reference", "name": "F"}),
            "(reference F)",
        ),
        (
            json!({"operation": "drop_table"}),
            "table t, which the live release may use, would be removed",
        ),
        (json!({"operation": "recreate_table"}), "would be removed"),
        (
            json!({"operation": "drop_element", "type": "int", "name": "c"}),
            "table t would lose int c",
        ),
        (
            json!({"operation": "drop_reference", "type": "reference", "name": "c"}),
            "table t would lose reference c",
        ),
        (
            json!({"operation": "modify_column", "name": "c"}),
            "column c of table t would be changed",
        ),
        (json!({"operation": "modify_table"}), "table t would be changed"),
        (json!({"operation": "rename_table"}), "the operation rename_table on table t is unknown"),
        (json!({"operation": "create_table", "fills": true}), "data would be moved"),
        (
            json!({"operation": "create_table", "references": [{"table": "o", "on_delete": "NO ACTION"}]}),
            "prevent rows of o from being deleted",
        ),
    ] {
        let mut change = change;
        change["table"] = json!("t");
        let found = obstacles(&with("/changes", json!([change])));
        assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
    }
}

#[test]
fn what_the_live_release_would_remove_again_is_not_online() {
    let (new, live) = (release(), release());
    let facts = with("/whitelists", json!(["white.json", "none.json", "../white.json"]));
    let at = || obstacles_at(new.path(), live.path(), &facts, &[]);
    // That it lists them itself is as it should be.
    let all = r#"{"t": {"column": {"c": true}}, "new": {"column": {"id": true}}}"#;
    std::fs::write(new.path().join("white.json"), all).unwrap();
    std::fs::write(live.path().join("white.json"), r#"{"t": {"column": {"other": true}}}"#)
        .unwrap();
    assert_eq!(at(), [""; 0]);
    std::fs::write(live.path().join("white.json"), all).unwrap();
    assert_eq!(
        at(),
        [
            "the live release would remove table new again (db_schema_whitelist.json), and not accept the database",
            "the live release would remove column c of table t again (db_schema_whitelist.json), and not accept the database",
        ]
    );
}

#[test]
fn what_the_live_release_has_given_up_is_found_by_its_plain_name_and_in_modules_that_only_it_has() {
    let live = release();
    let at = |facts: &Value| obstacles_at(live.path(), live.path(), facts, &[]);
    let module = live.path().join("vendor/acme/module-gone/etc");
    std::fs::create_dir_all(&module).unwrap();
    let file = module.join("db_schema_whitelist.json");
    let index = with(
        "/changes",
        json!([{"operation": "add_complex_element", "table": "m2_t", "plain_table": "t", "element": "index",
            "name": "M2_T_C", "plain_name": "T_C", "type": "index"}]),
    );
    let mut index = index;
    index["tables"]["m2_t"] = index["tables"]["t"].clone();
    assert_eq!(at(&index), [""; 0]);
    std::fs::write(&file, r#"{"t": {"index": {"T_C": true}}}"#).unwrap();
    assert!(at(&index)[0].contains("would remove index M2_T_C of table m2_t again"));
    // One that cannot be understood may have anything.
    for (contents, is_known) in [("{", false), ("[1]", false), ("[]", true), ("{}", true)] {
        std::fs::write(&file, contents).unwrap();
        assert_eq!(at(&index).is_empty(), is_known, "{contents}");
    }
    std::fs::write(&file, vec![b' '; 1 << 20]).unwrap();
    assert!(at(&index)[0].contains("module-gone/etc/db_schema_whitelist.json: it has 1048576"));
    let nothing = with("/changes", json!([]));
    assert!(!at(&nothing)[0].contains("whitelist"));
}

#[test]
fn what_may_run_is_allowed_by_its_class_or_with_all_and_a_changed_script_is_none_of_magentos() {
    let (new, live) = (release(), release());
    let script = |class: &str| with("/scripts", json!([{"class": class, "file": "Recurring.php"}]));
    let at =
        |facts: &Value, allowed: &[&str]| obstacles_at(new.path(), live.path(), facts, allowed);
    let (own, foreign) = (script("Magento\\A\\Setup\\Recurring"), script("A\\B\\Setup\\Recurring"));
    assert_eq!(at(&own, &[]), [""; 0]);
    for allowed in ["*", "A\\B\\Setup\\Recurring", "\\A\\B\\Setup\\Recurring"] {
        assert_eq!(at(&foreign, &[allowed]), [""; 0]);
    }
    assert_eq!(at(&foreign, &["A\\B"]).len(), 1);
    std::fs::write(new.path().join("Recurring.php"), "2").unwrap();
    assert_eq!(at(&own, &[]).len(), 1);
    std::fs::remove_dir_all(live.path().join("bin")).unwrap();
    assert_eq!(
        at(&facts(), &[]),
        ["there is no live release that could continue to serve visitors"]
    );
}

#[test]
fn without_the_servers_word_only_what_has_been_known_for_years() {
    let plain =
        json!({"engine": "InnoDB", "row_format": "Dynamic", "options": "", "odd_indexes": "0"});
    let column = json!({"element": "column", "type": "int", "default": "0"});
    let index = json!({"element": "index", "index_type": "btree"});
    let is_known = |changes: &[&Value], told: &Value, version: &str| {
        unproved(changes, told, version).is_none()
    };
    for version in ["10.4.27-MariaDB", "10.11.8-MariaDB-log", "11.4.2-MariaDB", "8.0.36", "8.4.0"] {
        assert!(
            is_known(&[&column], &plain, version) && is_known(&[&index, &index], &plain, version),
            "{version}"
        );
    }
    for version in ["10.3.39-MariaDB", "5.7.44", "8.0.mysql_aurora.3.04.0", "9.1.0", "", "?"] {
        assert!(!is_known(&[&column], &plain, version), "{version}");
    }
    assert!(!is_known(&[&column, &index], &plain, "8.0.36"));
    for (name, value) in
        [("row_format", "Compressed"), ("options", "partitioned"), ("odd_indexes", "1")]
    {
        let mut told = plain.clone();
        told[name] = json!(value);
        assert!(!is_known(&[&column], &told, "8.0.36"), "{name}");
    }
    for odd in [
        json!({"element": "column", "type": "timestamp", "default": "CURRENT_TIMESTAMP"}),
        json!({"element": "column", "type": "text"}),
        json!({"element": "index", "index_type": "fulltext"}),
    ] {
        assert!(!is_known(&[&odd], &plain, "8.0.36"), "{odd}");
    }
}
