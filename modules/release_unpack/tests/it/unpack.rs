//! `release_unpack`: an artifact becomes a release.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::{entries, formats, sample, sha256, started, unpack, with};
use oxistrano_harness::{
    Manifest, NOBODY, Root, app, dir, file, is_root, json, not_checked, tar_gz,
};

#[test]
fn check_mode_changes_nothing() {
    let root = Root::fresh();
    let src = sample(&root);
    let reply = root.check("release_unpack", unpack(&src)).changed();
    reply.says(["would unpack 3 files into", root.at("releases/2").to_str().unwrap()]);
    let root = started();
    let src = sample(&root);
    let reply = root.check("release_unpack", with(unpack(&src), "remove_src", true)).changed();
    let against = "compared with 1, the live release: 4 added, 1 changed, 1 removed, 0 unchanged";
    let before = format!("absent\n{against}\nindex.php: 1 bytes\nbin/run: 10 bytes\n");
    let after = format!(
        "release, 5 files and links\n{against}\nindex.php: 6 bytes\nbin/magento: 19 bytes\ndeep/er/file.txt: 4 bytes\nmedia: 18 bytes\nsame.php: 6 bytes\n"
    );
    assert_eq!(
        (&reply["diff"]["before"], &reply["diff"]["after"]),
        (&json!(before), &json!(after))
    );
    assert_eq!(reply["format"], "tar.gz");
    let src = root.archive("bad.tar.gz", &tar_gz(&[file("../x", "evil")]));
    let _ = root.check("release_unpack", unpack(&src)).failed("unsafe_entry");
}

#[test]
fn the_first_run_unpacks_and_the_second_changes_nothing() {
    let root = started();
    let src = sample(&root);
    let reply = root.run("release_unpack", unpack(&src)).changed();
    assert_eq!((&reply["files"], &reply["links"]), (&json!(3), &json!(2)));
    assert_eq!(reply["checksum"], sha256(&tar_gz(&entries())));
    assert_eq!(reply["release_path"], root.at("releases/2").to_str().unwrap());
    assert_eq!([root.live(), root.state("2")], ["1", "in_progress"]);
    let before = Manifest::exact(&root.at("releases"));
    let reply = root.run("release_unpack", unpack(&src)).unchanged();
    reply.says(["from the same archive"]);
    let _ = root.check("release_unpack", unpack(&src)).unchanged();
    before.assert_same(&Manifest::exact(&root.at("releases")));
    assert!(root.beside("app.tar.gz").exists());
}

#[test]
fn every_format_becomes_the_same_release_whatever_the_name() {
    let root = started();
    for (format, bytes) in formats() {
        let src = root.archive("artifact", &bytes);
        let reply = root.run("release_unpack", unpack(&src)).changed();
        assert_eq!(reply["format"], format);
        assert_eq!(
            Manifest::of(&root.at("releases/2")).paths(),
            [
                "REVISION",
                "bin",
                "bin/magento",
                "deep",
                "deep/er",
                "deep/er/file.txt",
                "empty",
                "index.php",
                "media",
                "same.php"
            ],
            "{format}"
        );
        assert_eq!(root.read("releases/2/bin/magento"), "#!/usr/bin/env php\n");
        assert_eq!(
            [root.mode("releases/2/bin/magento"), root.mode("releases/2/index.php")],
            [0o755, 0o644]
        );
        assert_eq!(root.read("releases/2/deep/er/file.txt"), "deep");
        assert_eq!(root.target("releases/2/media"), "../../shared/media");
        assert_eq!(root.read("releases/2/same.php"), "<?php\n");
        let _ = root.check("release_unpack", unpack(&src)).unchanged();
    }
    assert_eq!(root.releases(), ["1", "2"]);
}

#[test]
fn hard_links_and_times_are_kept() {
    let root = started();
    let _ = root.run("release_unpack", unpack(&sample(&root))).changed();
    let meta = |path: &str| root.at(path).metadata().unwrap();
    assert_eq!(meta("releases/2/index.php").ino(), meta("releases/2/same.php").ino());
    assert_eq!(meta("releases/2/index.php").mtime(), 1_234_567_890);
    assert_eq!(meta("releases/2/empty").mtime(), 1_234_567_890);
}

#[test]
fn a_good_checksum_passes_in_either_case() {
    let sum = sha256(&tar_gz(&entries()));
    for sum in [sum.clone(), sum.to_uppercase().replace("SHA256", "sha256")] {
        let root = started();
        let src = sample(&root);
        let _ =
            root.check("release_unpack", with(unpack(&src), "checksum", sum.as_str())).changed();
        let _ = root.run("release_unpack", with(unpack(&src), "checksum", sum)).changed();
    }
}

#[test]
fn revision_is_the_version_or_what_is_given_without_a_newline() {
    let root = started();
    let src = sample(&root);
    let reply = root.run("release_unpack", unpack(&src)).changed();
    assert_eq!((&reply["revision"], root.read("releases/2/REVISION").as_str()), (&json!("2"), "2"));
    let arguments = with(unpack(&src), "revision", "6536d65 (main)");
    let reply = root.run("release_unpack", arguments.clone()).changed();
    assert_eq!(reply["revision"], "6536d65 (main)");
    assert_eq!(root.read("releases/2/REVISION"), "6536d65 (main)");
    let _ = root.run("release_unpack", arguments).unchanged();
}

#[test]
fn revision_of_the_artifact_is_replaced_and_not_written_through() {
    let root = started();
    let outside = root.archive("outside", b"precious");
    let link = oxistrano_harness::symlink("REVISION", &outside);
    for entry in [file("REVISION", "of the artifact"), link] {
        let src = root.archive("app.tar.gz", &tar_gz(&[file("x", ""), entry]));
        let _ = root.run("release_unpack", unpack(&src)).changed();
        assert_eq!(root.read("releases/2/REVISION"), "2");
        assert!(!root.at("releases/2/REVISION").is_symlink());
    }
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

#[test]
fn the_archive_is_removed_on_request_and_only_after_success() {
    let root = started();
    let src = root.archive("app.tar.gz", &tar_gz(&[file("/etc/x", "")]));
    let _ =
        root.run("release_unpack", with(unpack(&src), "remove_src", true)).failed("unsafe_entry");
    assert!(root.beside("app.tar.gz").exists());
    let src = sample(&root);
    let _ = root.run("release_unpack", with(unpack(&src), "remove_src", true)).changed();
    assert!(!root.beside("app.tar.gz").exists());
}

#[test]
fn an_archive_in_the_staging_directory_goes_with_it() {
    let root = Root::with(&["1"]);
    let _ = root.run("release_setup", json!({"version": "2", "staging": true})).changed();
    let src = root.at("releases/.oxistrano-staging/app.tar.gz");
    fs::write(&src, tar_gz(&entries())).unwrap();
    let arguments = with(unpack(src.to_str().unwrap()), "remove_src", true);
    root.run("release_unpack", arguments).changed().has_no_warnings();
    assert_eq!(root.releases(), ["1", "2"]);
    assert_eq!(root.read("releases/2/index.php"), "<?php\n");
}

#[test]
fn components_are_stripped_and_patterns_left_out() {
    let root = started();
    let src = root.archive(
        "app.tar.gz",
        &tar_gz(&[
            dir("shop-1.4"),
            file("shop-1.4/index.php", "x"),
            file("shop-1.4/README.md", "x"),
            file("shop-1.4/dev/tests/a.php", "x"),
            file("shop-1.4/dev/tools/b.php", "x"),
            file("top-level", "x"),
        ]),
    );
    let expected = ["REVISION", "dev", "dev/tools", "dev/tools/b.php", "index.php"];
    let arguments = json!({"version": "2", "src": src, "remote_src": true,
        "strip_components": "1", "exclude": "*.md, dev/tests"});
    let _ = root.run("release_unpack", arguments).changed();
    assert_eq!(Manifest::of(&root.at("releases/2")).paths(), expected);
    let arguments = json!({"version": "3", "src": src, "remote_src": true,
        "extra_opts": ["--strip-components=1", "--exclude", "*.md", "--exclude=dev/tests", "-z"]});
    let _ = root.run("release_unpack", arguments).changed();
    assert_eq!(Manifest::of(&root.at("releases/3")).paths(), expected);
}

#[test]
fn options_of_tar_that_cannot_be_followed_are_refused_by_name() {
    let root = started();
    let src = sample(&root);
    let before = root.content();
    for option in ["--transform=s/a/b/", "--strip-components=many", "-C"] {
        let arguments = with(unpack(&src), "extra_opts", json!([option]));
        let reply = root.run("release_unpack", arguments).failed("unsupported_option");
        reply.says([option, "Nothing was changed."]);
    }
    before.assert_same(&root.content());
}

#[test]
fn modes_are_set_as_the_files_are_made() {
    let root = started();
    let src = sample(&root);
    let arguments = with(with(unpack(&src), "mode", "0640"), "directory_mode", "u=rwx,g=rx,o=");
    let _ = root.run("release_unpack", arguments).changed();
    for (path, mode) in [
        ("bin/magento", 0o640),
        ("index.php", 0o640),
        ("bin", 0o750),
        ("empty", 0o750),
        ("deep/er", 0o750),
    ] {
        assert_eq!(root.mode(format!("releases/2/{path}")), mode, "{path}");
    }
    let arguments = with(with(unpack(&src), "mode", "u=rwX,go=rX"), "version", "3");
    let _ = root.run("release_unpack", arguments).changed();
    assert_eq!(
        [root.mode("releases/3/bin/magento"), root.mode("releases/3/index.php")],
        [0o755, 0o644]
    );
    for wrong in ["rw", "0999", "u=q"] {
        let reply = root.run("release_unpack", with(unpack(&src), "mode", wrong));
        reply.failed("invalid_arguments").says(["mode", wrong]);
    }
}

#[test]
fn owner_and_group_are_set_on_all_that_is_unpacked() {
    let root = started();
    let src = sample(&root);
    let arguments = with(unpack(&src), "owner", "nobody-at-all");
    root.run("release_unpack", arguments).failed("no_such_user").says(["'nobody-at-all'"]);
    let arguments = with(unpack(&src), "group", "nobody-at-all");
    root.run("release_unpack", arguments).failed("no_such_group").says(["'nobody-at-all'"]);
    if !is_root() {
        return not_checked("owner and group of what is unpacked");
    }
    let arguments = with(with(unpack(&src), "owner", "nobody"), "group", NOBODY.to_string());
    let _ = root.run("release_unpack", arguments).changed();
    assert_eq!(root.owner("releases/2"), (NOBODY, NOBODY), "the release itself");
    for path in ["bin", "bin/magento", "index.php", "media", "empty", "deep", "deep/er/file.txt"] {
        assert_eq!(root.owner(format!("releases/2/{path}")), (NOBODY, NOBODY), "{path}");
    }
}

#[test]
fn owners_of_the_archive_are_kept_for_root_unless_that_is_not_wanted() {
    let root = started();
    let src = root.archive("app.tar", &oxistrano_harness::tar(&[file("x", "").owner(4711, 815)]));
    let mine = root.owner("");
    let arguments = with(unpack(&src), "extra_opts", "--no-same-owner");
    let _ = root.run("release_unpack", arguments).changed();
    assert_eq!(root.owner("releases/2/x"), mine);
    if !is_root() {
        return not_checked("that root keeps the owners of an archive");
    }
    let _ = root.run("release_unpack", with(unpack(&src), "version", "3")).changed();
    assert_eq!(root.owner("releases/3/x"), (4711, 815));
}

#[test]
fn setuid_does_not_go_to_an_owner_that_the_archive_did_not_mean() {
    let root = started();
    let src = root.archive("app.tar", &oxistrano_harness::tar(&[file("x", "").mode(0o4755)]));
    let arguments = with(unpack(&src), "owner", root.owner("").0.to_string());
    let _ = root.run("release_unpack", arguments).changed();
    assert_eq!(root.mode("releases/2/x"), 0o755);
}

#[test]
fn the_live_version_is_replaced_by_another_archive_only_by_force() {
    let root = started();
    let src = sample(&root);
    let before = root.content();
    let arguments = with(unpack(&src), "version", "1");
    let reply = root.run("release_unpack", arguments.clone()).failed("release_exists");
    reply.says(["release 1 already exists", "it is live", "force", "Nothing was changed."]);
    let _ = root.check("release_unpack", arguments.clone()).failed("release_exists");
    before.assert_same(&root.content());
    let arguments = with(arguments, "force", true);
    let _ = root.check("release_unpack", arguments.clone()).changed();
    let _ = root.run("release_unpack", arguments).changed();
    assert_eq!(root.read("current/index.php"), "<?php\n");
    assert_eq!(root.live(), "1");
    // The tree that was live is kept until the deploy has reached its switch.
    let _ = root.run("release_activate", json!({"version": "1"}));
    let _ = root.run("release_setup", json!({"version": "1", "state": "finished"})).changed();
    assert_eq!(root.releases(), ["1"]);
    assert_eq!([root.live(), root.read("current/index.php")], ["1", "<?php\n"]);
}

#[test]
fn a_live_version_whose_replacement_fails_is_put_back_as_it_was() {
    for dies in [false, true] {
        let root = Root::with(&["1"]);
        let before = root.content();
        let _ = root.run("release_setup", json!({"version": "1"})).changed();
        let arguments = with(with(unpack(&sample(&root)), "version", "1"), "force", true);
        let _ = root.run("release_unpack", arguments).changed();
        assert_eq!(root.read("current/index.php"), "<?php\n");
        if dies {
            let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
            let reply = root.run("release_setup", json!({"version": "2"})).changed();
            reply.warns("restored release 1");
        }
        let failed = json!({"state": "failed"});
        let reply = root.run("release_setup", failed).changed();
        reply.says(["before the switch", "Release 1 is live"]);
        before.assert_same(&root.content());
        assert_eq!(root.state("1"), "active");
    }
}

#[test]
fn a_tree_that_takes_the_place_of_the_live_one_is_linked_to_what_is_shared_before() {
    let root = Root::new();
    root.write("shared/var/log", "precious log");
    root.deploy_with("1", &oxistrano_harness::app("1"), json!({"shared_paths": ["var"]}));
    let _ = root.run("release_setup", json!({"version": "1"})).changed();
    let src = root.archive("app.tar.gz", &tar_gz(&[file("var/log", "of the artifact")]));
    let arguments = json!({"version": "1", "src": src, "remote_src": true, "force": true,
        "shared_paths": ["var"]});
    let _ = root.run("release_unpack", arguments).changed();
    assert_eq!(root.target("current/var"), "../../shared/var");
    assert_eq!(root.read("current/var/log"), "precious log");
}

#[test]
fn the_live_version_from_the_same_archive_changes_nothing() {
    let root = Root::new();
    let src = sample(&root);
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let _ = root.run("release_unpack", unpack(&src)).changed();
    let _ = root.run("release_activate", json!({"version": "2"})).changed();
    let _ = root.run("release_setup", json!({"version": "2", "state": "finished"})).changed();
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let before = Manifest::exact(&root.at("releases"));
    let _ = root.run("release_unpack", unpack(&src)).unchanged();
    before.assert_same(&Manifest::exact(&root.at("releases")));
    assert_eq!(root.live(), "2");
}

#[test]
fn an_unfinished_release_is_replaced() {
    let root = started();
    let _ = root.run("release_unpack", unpack(&sample(&root))).changed();
    let src = root.archive("other.tar.gz", &tar_gz(&[file("other", "")]));
    let _ = root.run("release_unpack", unpack(&src)).changed();
    assert_eq!(Manifest::of(&root.at("releases/2")).paths(), ["REVISION", "other"]);
    // After its deploy has died, too.
    let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
    assert_eq!(root.state("2"), "broken");
    let _ = root.run("release_unpack", unpack(&sample(&root))).changed();
    assert_eq!(root.releases(), ["1", "2"]);
}

#[test]
fn what_no_deploy_has_made_is_replaced_only_by_force() {
    let root = started();
    root.write("releases/9/precious", "");
    root.write("releases/file", "");
    let before = root.content();
    let src = sample(&root);
    let reply = root.run("release_unpack", with(unpack(&src), "version", "9"));
    reply.failed("release_exists").says(["no known deploy made it"]);
    let reply = root.run("release_unpack", with(unpack(&src), "version", "file"));
    reply.failed("release_exists").says(["it is not a directory"]);
    before.assert_same(&root.content());
    let arguments = with(with(unpack(&src), "version", "9"), "force", true);
    let _ = root.run("release_unpack", arguments).changed();
    assert!(!root.has("releases/9/precious"));
}

#[test]
fn an_archive_with_one_directory_at_the_top_is_warned_of() {
    let root = started();
    let src =
        root.archive("shop.tar.gz", &tar_gz(&[file("shop/index.php", "<?php"), dir("shop/pub")]));
    let reply = root.run("release_unpack", unpack(&src)).changed();
    reply.warns("are below the directory 'shop'");
    reply.warns("oxistrano_strip_components: 1");
    let stripped = with(unpack(&src), "strip_components", 1);
    root.run("release_unpack", with(stripped, "version", "3")).changed().has_no_warnings();
    // A file or a link alone is a release that somebody wants.
    let src = root.archive("one.tar.gz", &tar_gz(&[file("index.php", "<?php")]));
    root.run("release_unpack", with(unpack(&src), "version", "4")).changed().has_no_warnings();
}

#[test]
fn a_release_in_which_a_command_runs_is_not_replaced() {
    let root = Root::with(&["1"]);
    root.begin("2", &app("2"), &json!({}));
    let running = root.busy("2");
    let _ = root.run("release_setup", json!({"version": "2", "state": "failed"})).changed();
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let archive = root.archive("new.tar.gz", &tar_gz(&app("new")));
    let arguments = json!({"version": "2", "src": archive, "remote_src": true});
    let reply = root.run("release_unpack", arguments.clone()).failed("release_in_use");
    reply.says(["a command is still running in it", "Nothing was changed."]);
    drop(running);
    let _ = root.run("release_unpack", arguments).changed();
}
