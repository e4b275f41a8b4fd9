//! `release_unpack`: a release is built of what the host has, and of what the controller sends.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use crate::artifact::call;
use crate::common::{noise, sha256, with};
use oxistrano_harness::{
    Entry, Manifest, Reply, Root, Value, binary, file, gzip, json, run_program, tar_gz,
};

/// A release of many files, one of them as it is told.
fn files(changed: &str) -> Vec<Entry> {
    let mut all: Vec<_> = (0..40).map(|n| file(&format!("app/{n}"), format!("file {n}"))).collect();
    all.push(file("large", noise(300_000)));
    all.push(file("app/changed", changed));
    all
}

/// A root in which a release is the spare, a later one is live, and the deploy of 3 has begun; and what the
/// controller has.
struct Scene {
    root: Root,
    archive: Vec<u8>,
    /// Names of files that the controller makes must be free.
    made: std::cell::Cell<usize>,
}

impl Scene {
    /// The directory of the indexes.
    fn indexes(&self) -> PathBuf {
        let user = fs::metadata(self.root.at(".oxistrano")).unwrap().uid();
        self.root.at(format!(".oxistrano/index-{user}"))
    }

    fn new() -> Self {
        let root = Root::with(&["0"]);
        for version in ["1", "2"] {
            root.deploy_with(version, &files(version), json!({}));
        }
        fs::rename(root.at("releases/1"), root.at("releases/.oxistrano-spare")).unwrap();
        let _ = root.run("release_setup", json!({"version": "3"})).changed();
        let archive = tar_gz(&files("3"));
        fs::write(root.beside("new.tar.gz"), &archive).unwrap();
        fs::write(root.beside("live.tar.gz"), tar_gz(&files("2"))).unwrap();
        Self { root, archive, made: Default::default() }
    }

    /// The scene of the next deploy, of version 4.
    fn next(self, files: &[Entry]) -> Self {
        let archive = tar_gz(files);
        fs::write(self.root.beside("new.tar.gz"), &archive).unwrap();
        fs::remove_file(self.root.beside("new.manifest")).unwrap();
        Self { archive, ..self }
    }

    fn on_controller(&self, mut arguments: Value) -> Reply {
        for (_, value) in arguments.as_object_mut().unwrap() {
            if let Some(name) = value.as_str().filter(|name| name.contains('.')) {
                *value = self.root.beside(name).to_str().into();
            }
        }
        run_program(&binary("archive_manifest"), &arguments, None)
    }

    /// What is sent, and the digest of the archive's manifest.
    fn bundle(&self, how: Value) -> (Vec<u8>, Value) {
        self.made.set(self.made.get() + 1);
        let name = format!("bundle.{}", self.made.get());
        let mut arguments = json!({"src": "new.tar.gz", "dest": "new.manifest", "contents": name});
        for (key, value) in how.as_object().unwrap() {
            arguments[key] = value.clone();
        }
        let reply = self.on_controller(arguments);
        assert_ne!(reply["failed"], true, "{reply}");
        let read = |name: &str| fs::read(self.root.beside(name)).unwrap();
        let bundle = [read(&format!("{name}.message")), read(&name), vec![0; 1024]].concat();
        (gzip(&bundle), reply["digest"].clone())
    }

    fn arguments(&self, delta: Value) -> Value {
        let artifact =
            json!({"sha256": sha(&self.archive), "size": self.archive.len(), "delta": delta});
        json!({"version": "3", "src": "/on/the/controller.tar.gz", "artifact": artifact})
    }

    fn send(&self, bundles: &[&[u8]], digest: &Value, offset: usize, piece: &[u8]) -> Reply {
        let bundles: Vec<_> = bundles
            .iter()
            .map(|bundle| json!({"size": bundle.len(), "sha256": sha(bundle)}))
            .collect();
        let mut arguments = self.arguments(json!({"digest": digest, "bundles": bundles}));
        arguments["artifact"]["offset"] = offset.into();
        call(&self.root, arguments, piece)
    }

    /// It is what unpacking gives, and nothing is left of what was sent.
    #[track_caller]
    fn is_built(&self, reply: Reply) -> Reply {
        let reply = reply.changed();
        assert_eq!(reply["checksum"], json!(format!("sha256:{}", sha(&self.archive))));
        assert_eq!(self.root.read("releases/3/app/changed"), "3");
        let built = Manifest::of(&self.root.at("releases/3"));
        let kept = fs::read_dir(self.root.at(".oxistrano/artifacts")).unwrap();
        assert_eq!(kept.count(), 0);
        fs::remove_dir_all(self.root.at("releases/3")).unwrap();
        let src = self.root.beside("new.tar.gz");
        let arguments =
            json!({"version": "3", "src": src.to_str(), "remote_src": true, "spare": false});
        let _ = self.root.run("release_unpack", arguments).changed();
        Manifest::of(&self.root.at("releases/3")).assert_same(&built);
        reply
    }
}

fn sha(bytes: &[u8]) -> String {
    sha256(bytes)["sha256:".len()..].to_owned()
}

#[test]
fn a_spare_that_has_nearly_nothing_of_it_is_not_built_on() {
    let of = |version: &str, changed: &str| -> Vec<Entry> {
        let more = (0..5000).map(|n| file(&format!("d{}/{n}", n % 50), format!("{version} {n}")));
        files(changed).into_iter().chain(more).collect()
    };
    let root = Root::with(&["0"]);
    root.deploy_with("1", &of("old", "1"), json!({}));
    root.deploy_with("2", &of("new", "2"), json!({}));
    fs::rename(root.at("releases/1"), root.at("releases/.oxistrano-spare")).unwrap();
    let _ = root.run("release_setup", json!({"version": "3"})).changed();
    let archive = tar_gz(&of("new", "3"));
    fs::write(root.beside("new.tar.gz"), &archive).unwrap();
    fs::write(root.beside("live.tar.gz"), tar_gz(&of("new", "2"))).unwrap();
    let scene = Scene { root, archive, made: Default::default() };
    let _ = scene.on_controller(json!({"src": "live.tar.gz", "dest": "live.manifest"}));
    let (bundle, digest) = scene.bundle(json!({"base": "live.manifest"}));
    let spare = scene.root.at("releases/.oxistrano-spare");
    let before = Manifest::exact(&spare);
    let reply = scene.is_built(scene.send(&[&bundle], &digest, 0, &bundle));
    assert_eq!((&reply["kept_files"], &reply["warnings"]), (&json!(0), &Value::Null));
    before.assert_same(&Manifest::exact(&spare));
}

#[test]
fn of_a_known_release_only_what_differs_is_sent_in_one_call() {
    let scene = Scene::new();
    let live = scene.on_controller(json!({"src": "live.tar.gz", "dest": "live.manifest"}));
    let known = json!({"known": ["0".repeat(64), live["digest"]]});
    let asked = scene.root.run("release_unpack", scene.arguments(known)).unchanged();
    let offer = json!({"base": live["digest"], "also": []});
    assert_eq!((&asked["wanted"], &asked["delta"]), (&json!(0), &offer));
    let (bundle, digest) = scene.bundle(json!({"base": "live.manifest"}));
    assert!(bundle.len() < 600 && scene.archive.len() > 200_000, "{}", bundle.len());
    let inode = |path: &str| scene.root.at(path).metadata().unwrap().ino();
    let before = inode("releases/.oxistrano-spare/app/7");
    let reply = scene.send(&[&bundle], &digest, 0, &bundle);
    assert_eq!(inode("releases/3/app/7"), before);
    let reply = scene.is_built(reply);
    assert_eq!((&reply["files"], &reply["kept_files"]), (&json!(42), &json!(41)));
}

/// The release before the live one is known as well, and has a large file and many others that come back.
#[test]
fn what_an_earlier_release_has_is_not_sent_again() {
    let with_more = |version: &str| {
        let mut all = files(version);
        all.push(file("app/more", noise(400_000).into_iter().rev().collect::<Vec<_>>()));
        all.extend((0..500).map(|n| file(&format!("more/{n}"), format!("more {n}"))));
        all
    };
    let root = Root::with(&["0"]);
    root.deploy_with("1", &with_more("1"), json!({}));
    root.deploy_with("2", &files("2"), json!({}));
    let _ = root.run("release_setup", json!({"version": "3"})).changed();
    let archive = tar_gz(&with_more("3"));
    for (name, archive) in [("new", &archive), ("live", &tar_gz(&files("2")))] {
        fs::write(root.beside(format!("{name}.tar.gz")), archive).unwrap();
    }
    fs::write(root.beside("earlier.tar.gz"), tar_gz(&with_more("1"))).unwrap();
    let scene = Scene { root, archive, made: Default::default() };
    let known = ["earlier", "live"].map(|name| {
        let arguments =
            json!({"src": format!("{name}.tar.gz"), "dest": format!("{name}.manifest")});
        scene.on_controller(arguments)["digest"].clone()
    });
    let asked = scene.root.run("release_unpack", scene.arguments(json!({"known": known})));
    assert_eq!(asked.unchanged()["delta"], json!({"base": known[1], "also": [known[0]]}));
    let (bundle, _) = scene.bundle(json!({"base": "live.manifest"}));
    assert!(bundle.len() > 400_000, "{}", bundle.len());
    let earlier = scene.root.beside("earlier.manifest");
    let how = json!({"base": "live.manifest", "also": [earlier], "known": "new.manifest"});
    let (bundle, digest) = scene.bundle(how);
    assert!(bundle.len() < 700, "{}", bundle.len());
    let _ = scene.is_built(scene.send(&[&bundle], &digest, 0, &bundle));
    // It is not there after all.
    fs::remove_dir_all(scene.root.at("releases/3")).unwrap();
    fs::remove_file(scene.root.at("releases/1/app/more")).unwrap();
    let asked = scene.send(&[&bundle], &digest, 0, &bundle).unchanged();
    let missing = asked["delta"]["missing"].as_str().unwrap();
    assert_eq!(missing, "42");
    let (second, _) =
        scene.bundle(json!({"known": "new.manifest", "told": true, "wanted": missing}));
    let _ = scene.is_built(scene.send(&[&bundle, &second], &digest, 0, &second));
}

#[test]
fn of_an_unknown_release_the_host_says_what_it_lacks() {
    let scene = Scene::new();
    let asked = scene.root.run("release_unpack", scene.arguments(json!({"known": []}))).unchanged();
    assert_eq!(asked["delta"], json!({"base": null}));
    // What somebody has changed or removed is not what it was, in whichever release.
    for release in ["2", ".oxistrano-spare"] {
        fs::write(scene.root.at(format!("releases/{release}/app/3")), "FILE 3").unwrap();
        fs::remove_file(scene.root.at(format!("releases/{release}/app/4"))).unwrap();
    }
    // Only in one of them; and in one of them, only its mode.
    fs::write(scene.root.at("releases/.oxistrano-spare/app/5"), "FILE 5").unwrap();
    let large = scene.root.at("releases/.oxistrano-spare/large");
    fs::set_permissions(large, fs::Permissions::from_mode(0o600)).unwrap();
    let (first, digest) = scene.bundle(json!({"cut": true}));
    let asked = scene.send(&[&first], &digest, 0, &first).unchanged();
    let missing = asked["delta"]["missing"].as_str().unwrap().to_owned();
    assert_eq!(missing, "3-4,41");
    let (second, _) =
        scene.bundle(json!({"known": "new.manifest", "told": true, "wanted": missing}));
    let all: [&[u8]; 2] = [&first, &second];
    // In pieces, of which one comes twice.
    let half = second.len() / 2;
    for _ in 0..2 {
        let asked = scene.send(&all, &digest, 0, &second[..half]).unchanged();
        assert_eq!(asked["wanted"], json!(half));
    }
    let reply = scene.is_built(scene.send(&all, &digest, half, &second[half..]));
    assert_eq!(reply["kept_files"], json!(37));
}

#[test]
fn without_a_spare_it_is_copied_and_without_an_index_all_is_wanted() {
    let scene = Scene::new();
    fs::remove_dir_all(scene.root.at("releases/.oxistrano-spare")).unwrap();
    let _ = scene.on_controller(json!({"src": "live.tar.gz", "dest": "live.manifest"}));
    let (bundle, digest) = scene.bundle(json!({"base": "live.manifest"}));
    let reply = scene.is_built(scene.send(&[&bundle], &digest, 0, &bundle));
    assert_eq!(reply["kept_files"], json!(0));

    let scene = Scene::new();
    fs::remove_dir_all(scene.indexes()).unwrap();
    let asked = scene.root.run("release_unpack", scene.arguments(json!({"known": []}))).unchanged();
    assert_eq!((&asked["wanted"], &asked["delta"]), (&json!(0), &Value::Null));
}

#[test]
fn where_what_was_sent_is_of_no_use_the_whole_is_wanted_and_nothing_is_lost() {
    let scene = Scene::new();
    let live = scene.on_controller(json!({"src": "live.tar.gz", "dest": "live.manifest"}));
    let (bundle, digest) = scene.bundle(json!({"base": "live.manifest"}));
    let whole = |reply: Reply| {
        let reply = reply.unchanged();
        assert!(reply["whole"].is_string(), "{reply}");
        assert!(scene.root.has("releases/.oxistrano-spare/large"));
        assert_eq!(fs::read_dir(scene.root.at(".oxistrano/artifacts")).unwrap().count(), 0);
        assert!(!scene.root.has("releases/3"));
    };
    // Another manifest than the one of the archive.
    whole(scene.send(&[&bundle], &live["digest"], 0, &bundle));
    whole(scene.send(&[b"no bundle"], &digest, 0, b"no bundle"));
    // Indexes may be damaged after they were offered.
    for entry in fs::read_dir(scene.indexes()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    whole(scene.send(&[&bundle], &digest, 0, &bundle));
    let _ = call(&scene.root, with(scene.arguments(json!({"known": []})), "force", true), b"");
    let mut arguments = scene.arguments(json!({"known": []}));
    arguments["artifact"].as_object_mut().unwrap().remove("delta");
    arguments["artifact"]["offset"] = json!(0);
    let reply = call(&scene.root, arguments, &scene.archive).changed();
    assert_eq!(reply["files"], json!(42));
}

#[test]
fn an_index_is_not_read_where_others_can_write_and_goes_with_its_release() {
    let scene = Scene::new();
    let index = scene.indexes();
    assert_eq!(fs::metadata(&index).unwrap().permissions().mode() & 0o777, 0o700);
    let count = || fs::read_dir(&index).unwrap().count();
    assert_eq!(count(), 3);
    // It gives up the spare.
    let _ = scene.root.run("release_prune", json!({"keep": 5, "spare": false})).changed();
    assert_eq!(count(), 2);
    fs::remove_dir_all(scene.root.at("releases/0")).unwrap();
    let src = scene.root.beside("new.tar.gz");
    let arguments = json!({"version": "3", "src": src.to_str(), "remote_src": true});
    let _ = scene.root.run("release_unpack", arguments).changed();
    assert_eq!(count(), 2);
    fs::set_permissions(&index, fs::Permissions::from_mode(0o777)).unwrap();
    let asked = scene
        .root
        .run("release_unpack", with(scene.arguments(json!({"known": []})), "version", "4"));
    assert_eq!(asked["delta"], Value::Null, "{asked}");
}

/// Deploys release 3 in as many rounds as it takes. Returns how many times contents were asked for, and
/// the answer to the offer.
fn rounds(scene: &Scene, live: &Value, base: &str, options: &[(&str, Value)]) -> (usize, Value) {
    let all = |mut arguments: Value| {
        for (name, value) in options {
            arguments[*name] = value.clone();
        }
        arguments
    };
    let offer = all(scene.arguments(json!({"known": [live]})));
    let offer = scene.root.run("release_unpack", offer).unchanged()["delta"]["base"].clone();
    let lost = offer.as_str().unwrap().split_once('+').map_or("", |(_, lost)| lost).to_owned();
    let (bundle, digest) = scene.bundle(json!({"base": base, "lost": lost}));
    let (mut bundles, mut asked) = (vec![bundle], 0);
    loop {
        let told: Vec<_> = bundles
            .iter()
            .map(|bundle| json!({"size": bundle.len(), "sha256": sha(bundle)}))
            .collect();
        let mut arguments = all(scene.arguments(json!({"digest": digest, "bundles": told})));
        arguments["artifact"]["offset"] = 0.into();
        let reply = call(&scene.root, arguments, bundles.last().unwrap());
        let Some(missing) = reply["delta"]["missing"].as_str() else {
            let _ = reply.changed();
            return (asked, offer);
        };
        asked += 1;
        let (bundle, _) =
            scene.bundle(json!({"known": "new.manifest", "told": true, "wanted": missing}));
        bundles.push(bundle);
    }
}

#[test]
fn what_the_host_is_known_to_have_lost_is_sent_without_being_asked_for() {
    for is_shared in [false, true] {
        let scene = Scene::new();
        let shared = [("shared_paths", json!([if is_shared { "app/7" } else { "elsewhere" }]))];
        let live = scene.on_controller(json!({"src": "live.tar.gz", "dest": "live.manifest"}));
        // As a link to a shared file does, or `setup:upgrade`.
        let lose = |release: &str| {
            let path = scene.root.at(format!("releases/{release}/app/7"));
            fs::remove_file(&path).unwrap();
            fs::write(path, "another").unwrap();
        };
        lose("2");
        lose(".oxistrano-spare");
        let (asked, _) = rounds(&scene, &live["digest"], "live.manifest", &shared);
        assert_eq!(asked, 1, "nothing says so yet");
        // The same again: what was built is the live release, and the former one the spare.
        let _ = scene.root.run("release_activate", json!({"version": "3"})).changed();
        lose("3");
        let read = |name: &str| fs::read(scene.root.beside(name)).unwrap();
        fs::write(scene.root.beside("built.manifest"), read("new.manifest")).unwrap();
        let built = json!(
            scene.on_controller(json!({"src": "new.tar.gz", "dest": "built.manifest"}))["digest"]
        );
        fs::rename(scene.root.at("releases/2"), scene.root.at("releases/.oxistrano-spare"))
            .unwrap();
        let next = scene.next(&files("4"));
        let (asked, offer) = rounds(&next, &built, "built.manifest", &[("version", json!("4"))]);
        assert_eq!((asked, offer.as_str().unwrap().split_once('+').map(|it| it.1)), (0, Some("7")));
        assert_eq!(next.root.read("releases/4/app/7"), "file 7");
    }
}
