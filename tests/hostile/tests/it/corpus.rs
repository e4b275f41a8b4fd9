//! Every archive of the corpus, unpacked by the program as Ansible runs it, by root where the
//! tests are root's: refused with the entry's name, or unpacked; nothing outside is touched,
//! nothing is left behind, and neither time nor memory grows.

use std::fs;

use crate::common::Attack;
use oxistrano_hostile::cases::ALL;
use oxistrano_hostile::{Case, Expected};

/// All that are not as the table has them, at once.
fn try_all(group: &str) {
    let cases = ALL.iter().find(|(name, _)| *name == group).unwrap().1;
    assert!(!cases.is_empty());
    let mut attack = Attack::new();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            try_one(&mut attack, case).err().map(|why| format!("{}: {why}", case.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{group}:\n{}", wrong.join("\n"));
}

fn try_one(attack: &mut Attack, case: &Case) -> Result<(), String> {
    let outcome = attack.run(case)?;
    let reply = outcome.reply;
    let said = &reply["msg"];
    match case.expected {
        Expected::Refused(code, words) => {
            if reply["code"] != code {
                return Err(format!("not refused with {code}: {said}"));
            }
            let msg = reply["msg"].as_str().unwrap_or_default();
            if !msg.contains(words) || msg.contains('\x1b') {
                return Err(format!("its message lacks {words:?}: {msg:?}"));
            }
            if !outcome.tree.is_empty() {
                return Err(format!("left behind: {:?}", outcome.tree));
            }
        }
        Expected::Unpacked(tree) => {
            if reply["failed"] == true || outcome.tree != tree {
                return Err(format!("became {:?}: {said}", outcome.tree));
            }
        }
        Expected::Many(count) => {
            if reply["failed"] == true || outcome.tree.len() != count {
                return Err(format!("became {} entries: {said}", outcome.tree.len()));
            }
        }
    }
    Ok(())
}

macro_rules! groups {
    ($($group:ident)*) => {
        $(#[test]
        fn $group() {
            try_all(stringify!($group));
        })*

        #[test]
        fn no_group_is_forgotten() {
            assert_eq!(ALL.iter().map(|group| group.0).collect::<Vec<_>>(), [$(stringify!($group)),*]);
        }
    };
}

groups!(names links kinds sizes pax sparse streams zips amounts);

/// A name is matched against patterns before anything else is known of it.
#[test]
fn the_longest_names_cost_no_time_to_exclude() {
    use oxistrano_harness::json;
    use oxistrano_hostile::tar::{bytes, file, pax};
    let path = "a/".repeat(500_000);
    let archive = bytes(&[pax(b'x', &[("path", path.as_bytes())]), file("x"), file("y")]);
    let patterns = json!(["*.pdf", "a*b*c", "[a-z]*x?z"]);
    let outcome = Attack::new().unpack(&archive, vec![("exclude", patterns)]).unwrap();
    assert_eq!(outcome.reply["code"], "unsafe_entry", "{}", outcome.reply["msg"]);
}

/// A bit flipped anywhere is noticed, or makes no difference outside of the release.
#[test]
fn damage_anywhere_harms_nobody() {
    use oxistrano_hostile::{packed, tar, zip};
    let tar = tar::bytes(&[
        tar::pax(b'x', &[("path", b"some/where"), ("mtime", b"1.5")]),
        tar::file("a"),
        tar::symlink("l", "a"),
        tar::hard_link("some/h", "some/where"),
    ]);
    let mut whole: Vec<Vec<u8>> =
        packed::ALL.iter().map(|(_, pack)| packed::bytes(*pack, &tar)).collect();
    whole.push(zip::zip(&[
        zip::deflated("a/b", b"evil"),
        zip::symlink("l", b"a/b"),
        zip::dir("d/"),
    ]));
    whole.push(tar);
    let mut attack = Attack::new();
    for whole in whole {
        for number in 0..24 {
            let mut archive = whole.clone();
            let at = archive.len() * number / 24;
            archive[at] ^= 1 << (number % 8);
            attack.unpack(&archive, Vec::new()).unwrap();
        }
    }
    assert!(fs::metadata(attack.victim()).is_ok());
}
