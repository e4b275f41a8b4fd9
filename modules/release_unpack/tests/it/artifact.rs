//! `release_unpack`: the archive comes from the controller, in pieces on standard input.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::{entries, formats, noise, sha256, started, with};
use oxistrano_harness::{
    NOBODY, Reply, Root, Value, binary, file, json, not_checked, run_program, tar, tar_gz, tmpfs,
};

/// The archive on the controller.
struct Shop {
    root: Root,
    bytes: Vec<u8>,
}

impl Shop {
    fn new() -> Self {
        Self::of(tar_gz(&entries()))
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self { root: started(), bytes }
    }

    fn digits(&self) -> String {
        sha256(&self.bytes)["sha256:".len()..].to_owned()
    }

    fn arguments(&self) -> Value {
        let artifact = json!({"sha256": self.digits(), "size": self.bytes.len()});
        // The path means nothing here.
        json!({"version": "2", "src": "/on/the/controller.tar.gz", "artifact": artifact})
    }

    /// Asks whether it is there.
    #[track_caller]
    fn ask(&self) -> Reply {
        self.root.run("release_unpack", self.arguments())
    }

    /// Sends a piece.
    #[track_caller]
    fn send(&self, offset: usize, piece: &[u8]) -> Reply {
        let mut arguments = self.arguments();
        arguments["artifact"]["offset"] = offset.into();
        call(&self.root, arguments, piece)
    }

    /// What is kept on the host.
    fn place(&self, suffix: &str) -> PathBuf {
        self.root.at(format!(".oxistrano/artifacts/{}{suffix}", self.digits()))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.at(".oxistrano/artifacts"));
        let mut names: Vec<_> = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    /// It is unpacked and nothing but it is kept.
    #[track_caller]
    fn is_deployed(&self, reply: Reply) {
        let reply = reply.changed();
        assert_eq!(reply["checksum"], format!("sha256:{}", self.digits()));
        assert!(self.root.has("releases/2/REVISION"));
        assert_eq!(self.names(), [self.digits()]);
        assert_eq!(fs::read(self.place("")).unwrap(), self.bytes);
        let is = |path: &str| (self.root.mode(path), self.root.owner(path).0);
        let uid = self.root.owner(".oxistrano").0;
        assert_eq!(is(".oxistrano/artifacts"), (0o700, uid));
        assert_eq!(is(&format!(".oxistrano/artifacts/{}", self.digits())), (0o600, uid));
    }
}

/// As the action plugin calls it: the arguments on standard input, then the bytes.
#[track_caller]
pub fn call(root: &Root, mut arguments: Value, piece: &[u8]) -> Reply {
    arguments["deploy_to"] = root.path().to_str().into();
    let mut child = Command::new(binary("release_unpack"))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{arguments}\n").as_bytes()).unwrap();
    // What it does not want it takes all the same.
    stdin.write_all(piece).unwrap();
    drop(stdin);
    Reply::of(&child.wait_with_output().unwrap())
}

#[track_caller]
fn wants(reply: Reply, offset: usize) {
    let reply = reply.unchanged();
    assert_eq!((&reply["wanted"], &reply["damaged"]), (&offset.into(), &false.into()), "{reply}");
}

#[test]
fn it_comes_in_pieces_and_the_last_one_is_unpacked_at_once() {
    for (_, bytes) in formats() {
        let shop = Shop::of(bytes);
        let half = shop.bytes.len() / 2;
        wants(shop.ask(), 0);
        wants(shop.send(0, &shop.bytes[..half]), half);
        assert_eq!(fs::read(shop.place(".part")).unwrap(), shop.bytes[..half]);
        assert_eq!(shop.root.mode(shop.place(".part")), 0o600);
        // As a connection does that sends again what it does not know to have arrived.
        wants(shop.send(0, &shop.bytes[..half]), half);
        wants(shop.send(half + 1, &shop.bytes[half + 1..]), half);
        // Another run asks first.
        wants(shop.ask(), half);
        shop.is_deployed(shop.send(half, &shop.bytes[half..]));
    }
}

#[test]
fn it_is_sent_once_and_unpacked_as_often_as_you_like() {
    let shop = Shop::new();
    shop.is_deployed(shop.send(0, &shop.bytes));
    let _ = shop.ask().unchanged();
    fs::remove_dir_all(shop.root.at("releases/2")).unwrap();
    shop.is_deployed(shop.ask());
    let _ = shop.root.run("release_unpack", with(shop.arguments(), "revision", "other")).changed();
    assert_eq!(shop.root.read("releases/2/REVISION"), "other");
}

#[test]
fn a_release_that_is_there_needs_no_archive() {
    let shop = Shop::new();
    let _ = call(&shop.root, with(shop.arguments(), "keep_artifacts", 0), b"");
    let mut arguments = with(shop.arguments(), "keep_artifacts", 0);
    arguments["artifact"]["offset"] = 0.into();
    let _ = call(&shop.root, arguments, &shop.bytes).changed();
    assert!(shop.names().is_empty());
    let _ = shop.ask().unchanged();
}

#[test]
fn what_is_kept_and_damaged_is_thrown_away_and_asked_for() {
    // In an entry, in a header, at the end, where no format looks.
    for at in [600, 20, 5_000] {
        let bytes = tar(&[file("a", noise(3_000)), file("b", "b")]);
        let shop = Shop::of([bytes, vec![0; 4_096]].concat());
        shop.is_deployed(shop.send(0, &shop.bytes));
        fs::remove_dir_all(shop.root.at("releases/2")).unwrap();
        let mut damaged = shop.bytes.clone();
        damaged[at] ^= 1;
        fs::write(shop.place(""), &damaged).unwrap();
        let check = shop.root.check("release_unpack", shop.arguments()).changed();
        check.says(["would send"]);
        let reply = shop.ask().unchanged();
        assert_eq!((&reply["wanted"], &reply["damaged"]), (&0.into(), &true.into()), "{reply}");
        assert!(shop.names().is_empty() && !shop.root.has("releases/2"));
        assert_eq!(shop.root.releases(), ["1"]);
        shop.is_deployed(shop.send(0, &shop.bytes));
    }
}

#[test]
fn what_changed_while_it_was_sent_is_not_unpacked() {
    let shop = Shop::new();
    let half = shop.bytes.len() / 2;
    let mut other = shop.bytes.clone();
    other[half + 1] ^= 1;
    wants(shop.send(0, &shop.bytes[..half]), half);
    let before = shop.root.content();
    let reply = shop.send(half, &other[half..]).unchanged();
    assert_eq!(reply["damaged"], true);
    before.assert_same(&shop.root.content());
    assert!(shop.names().is_empty());
}

#[test]
fn a_bad_archive_stays_for_another_try_and_is_named() {
    let shop = Shop::of(b"This is no archive.\n".to_vec());
    shop.send(0, &shop.bytes).failed("unknown_format").says(["controller.tar.gz"]);
    shop.ask().failed("unknown_format").says(["Nothing was changed."]);
}

#[test]
fn what_cannot_be_deployed_is_refused_before_it_is_sent() {
    let shop = Shop::new();
    let refused = |arguments: Value, code: &str| {
        let reply = shop.root.run("release_unpack", arguments).failed(code);
        assert!(shop.names().is_empty());
        reply
    };
    let wrong = sha256(b"something else");
    let reply = refused(with(shop.arguments(), "checksum", wrong.as_str()), "wrong_checksum");
    reply.says([wrong.as_str(), &shop.digits()]);
    let live = with(shop.arguments(), "version", "1");
    let _ = refused(live, "release_exists");
    let mut empty = shop.arguments();
    empty["artifact"]["size"] = 0.into();
    refused(empty, "no_archive").says(["it is empty"]);
    let stranger = with(shop.arguments(), "deployer", json!({"host": "elsewhere", "pid": 1}));
    let _ = refused(stranger, "locked");
    let nobody = with(shop.arguments(), "owner", "no-such-user");
    let reply = shop.root.run("release_unpack", nobody);
    assert_eq!(reply["failed"], true);
    assert!(shop.names().is_empty());
    for wrong in ["../../x", "", "A".repeat(64).as_str()] {
        let mut arguments = shop.arguments();
        arguments["artifact"]["sha256"] = wrong.into();
        let _ = refused(arguments, "invalid_arguments");
    }
}

#[test]
fn check_mode_takes_nothing_and_uses_what_is_there() {
    let shop = Shop::new();
    let check = || shop.root.check("release_unpack", shop.arguments()).changed();
    check().says(["would send", &format!("{} bytes", shop.bytes.len())]);
    wants(shop.send(0, &shop.bytes[..9]), 9);
    check().says(["would send"]);
    shop.is_deployed(shop.send(9, &shop.bytes[9..]));
    fs::remove_dir_all(shop.root.at("releases/2")).unwrap();
    check().says(["would unpack 3 files"]);
    let root = Root::fresh();
    root.check("release_unpack", shop.arguments()).changed().says(["would send"]);
}

#[test]
fn the_last_archives_stay() {
    let shops = ["a", "b", "c"].map(|text| Shop::of(tar_gz(&[file(text, text)])));
    let root = &shops[0].root;
    let deploy = |shop: &Shop, keep: u32| {
        let mut arguments = with(shop.arguments(), "keep_artifacts", keep);
        arguments["artifact"]["offset"] = 0.into();
        let _ = call(root, arguments, &shop.bytes).changed();
        let kept: Vec<_> = shops[0].names();
        shops.iter().map(|shop| kept.contains(&shop.digits())).collect::<Vec<_>>()
    };
    assert_eq!(deploy(&shops[0], 1), [true, false, false]);
    assert_eq!(deploy(&shops[1], 2), [true, true, false]);
    assert_eq!(deploy(&shops[2], 1), [false, false, true]);
    assert_eq!(deploy(&shops[1], 0), [false, false, false]);
}

#[test]
fn a_file_that_the_module_sees_itself_is_not_sent() {
    let shop = Shop::new();
    let path = shop.root.archive("here.tar.gz", &shop.bytes);
    let info = fs::metadata(&path).unwrap();
    let mtime = info.mtime() * 1_000_000_000 + info.mtime_nsec();
    let here = |inode: u64, mtime: i64| {
        let here = json!({"path": path, "device": info.dev(), "inode": inode, "mtime": mtime});
        json!({"version": "2", "src": path, "artifact": {"size": info.len(), "here": here}})
    };
    // Another file system, or another file by now.
    for other in [here(info.ino() + 1, mtime), here(info.ino(), mtime + 1)] {
        wants(shop.root.run("release_unpack", other), 0);
    }
    let arguments = with(here(info.ino(), mtime), "remove_src", true);
    let _ = shop.root.check("release_unpack", arguments.clone()).changed();
    let wrong = with(arguments.clone(), "checksum", sha256(b"else").as_str());
    let _ = shop.root.run("release_unpack", wrong).failed("wrong_checksum");
    let _ = shop.root.run("release_unpack", arguments.clone()).changed();
    let _ = shop.root.run("release_unpack", arguments).unchanged();
    assert!(shop.names().is_empty() && fs::metadata(&path).is_ok(), "the user's file stays");
    if !oxistrano_harness::is_root() {
        return not_checked("a file of the controller that the user of the host cannot read");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut arguments = here(info.ino(), mtime);
    arguments["deploy_to"] = "/nonexistent".into();
    wants(run_program(&binary("release_unpack"), &arguments, Some(NOBODY)), 0);
}

#[test]
fn a_disk_that_is_too_full_is_noticed_before_anything_is_sent() {
    let shop = Shop::of(noise(3_000_000));
    let state = shop.root.at(".oxistrano/artifacts");
    fs::create_dir_all(&state).unwrap();
    let Some(_mount) = tmpfs(&state, "2m") else {
        return not_checked("a disk that is too full for the archive");
    };
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let full = shop.ask().failed("no_space");
    full.says(["not enough space for '/on/the/controller.tar.gz'", "3.0 MB are still to be sent"]);
    // An archive that was kept gives way.
    let small = Shop::of(noise(1_500_000));
    let mut arguments = small.arguments();
    arguments["artifact"]["offset"] = 0.into();
    let _ = call(&shop.root, arguments.clone(), &small.bytes).failed("unknown_format");
    assert_eq!(shop.names(), [small.digits()]);
    let other = Shop::of(noise(1_600_000));
    wants(shop.root.run("release_unpack", other.arguments()), 0);
    assert!(shop.names().is_empty());
}

/// What somebody may have put where the archives are to go.
type Spoil = fn(&Shop);

fn outside(shop: &Shop) -> PathBuf {
    let path = shop.root.beside("outside");
    fs::create_dir_all(&path).unwrap();
    path
}

fn victim(shop: &Shop) -> PathBuf {
    let path = outside(shop).join("victim");
    fs::write(&path, "precious").unwrap();
    path
}

fn fifo(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn nothing_is_written_or_read_elsewhere() {
    let cases: [(&str, Spoil); 11] = [
        ("the directory is a link", |shop| {
            symlink(outside(shop), shop.root.at(".oxistrano/artifacts")).unwrap();
        }),
        ("the directory is a FIFO", |shop| fifo(&shop.root.at(".oxistrano/artifacts"))),
        ("the directory is a file", |shop| shop.root.write(".oxistrano/artifacts", "x")),
        ("others may write to it", |shop| {
            opened(shop, 0o777);
            fs::write(shop.place(".part"), &shop.bytes[..9]).unwrap();
        }),
        ("others may read it", |shop| opened(shop, 0o750)),
        ("the part is a link", |shop| {
            opened(shop, 0o700);
            symlink(victim(shop), shop.place(".part")).unwrap();
        }),
        ("the part is a FIFO", |shop| {
            opened(shop, 0o700);
            fifo(&shop.place(".part"));
        }),
        ("the part has another name as well", |shop| {
            opened(shop, 0o700);
            fs::hard_link(victim(shop), shop.place(".part")).unwrap();
        }),
        ("the part is for all to write", |shop| {
            opened(shop, 0o700);
            fs::write(shop.place(".part"), "evil").unwrap();
            fs::set_permissions(shop.place(".part"), fs::Permissions::from_mode(0o666)).unwrap();
        }),
        ("the whole archive is a link", |shop| {
            opened(shop, 0o700);
            symlink(victim(shop), shop.place("")).unwrap();
        }),
        ("the part is longer than the archive", |shop| {
            opened(shop, 0o700);
            fs::write(shop.place(".part"), noise(100_000)).unwrap();
            fs::set_permissions(shop.place(".part"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
    ];
    for (what, spoil) in cases {
        let shop = Shop::new();
        spoil(&shop);
        let precious = victim(&shop);
        let _ = shop.root.check("release_unpack", shop.arguments()).changed();
        if what == "the part is longer than the archive" {
            assert_eq!(shop.ask()["wanted"], 100_000);
        } else {
            wants(shop.ask(), 0);
        }
        shop.is_deployed(shop.send(0, &shop.bytes));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{what}");
        assert_eq!(fs::read_dir(outside(&shop)).unwrap().count(), 1, "{what}");
    }
}

/// Makes the directory, with this mode.
fn opened(shop: &Shop, mode: u32) {
    let path = shop.root.at(".oxistrano/artifacts");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_of_another_user_becomes_roots_and_is_empty_then() {
    if !oxistrano_harness::is_root() {
        return not_checked("archives in a directory of another user");
    }
    let shop = Shop::new();
    opened(&shop, 0o700);
    fs::write(shop.place(""), &shop.bytes).unwrap();
    fs::set_permissions(shop.place(""), fs::Permissions::from_mode(0o600)).unwrap();
    for path in [shop.place(""), shop.root.at(".oxistrano/artifacts")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let _ = shop.root.check("release_unpack", shop.arguments()).changed();
    wants(shop.ask(), 0);
    shop.is_deployed(shop.send(0, &shop.bytes));
}

#[test]
fn without_a_place_of_its_own_the_module_says_so() {
    if !oxistrano_harness::is_root() {
        return not_checked("a directory for archives that is root's");
    }
    let shop = Shop::new();
    opened(&shop, 0o700);
    for name in ["", "releases", ".oxistrano", ".oxistrano/history.jsonl", ".oxistrano/lock.json"] {
        std::os::unix::fs::chown(shop.root.at(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let reply = shop.root.run_as(NOBODY, "release_unpack", shop.arguments());
    reply.failed("no_place").says(["cannot keep archives in", "Nothing was changed."]);
}
