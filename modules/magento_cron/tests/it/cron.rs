//! `magento_cron`: the crontab, with a fake program `crontab` that keeps it in a file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use oxistrano_harness::{NOBODY, Reply, Shop, Value, is_root, json, not_checked};

/// As Debian's: what is wrong with a crontab is found out when it is installed.
const CRONTAB: &str = r#"
case $1 in
  -l)
    id -un >> "$CRONTAB.readers"
    [ -f "$CRONTAB.denied" ] && { echo "You ($(id -un)) are not allowed to use this program (crontab)" >&2; exit 1; }
    [ -f "$CRONTAB" ] || { echo "no crontab for $(id -un)" >&2; exit 1; }
    cat "$CRONTAB" ;;
  -)
    cat > "$CRONTAB.new"
    [ -f "$CRONTAB.refused" ] && { echo '"-":1: bad minute' >&2; echo "errors in crontab file, can't install." >&2; exit 1; }
    cat "$CRONTAB.new" > "$CRONTAB"; id -un >> "$CRONTAB.writers" ;;
  *) echo "usage error: $*" >&2; exit 1 ;;
esac
"#;

struct Cron {
    shop: Shop,
}

impl Cron {
    /// A user with this crontab; `{}` in it is the deploy root.
    fn new(text: &str) -> Self {
        let shop = Shop::new();
        let file = shop.root.beside("crontab");
        // Not by a variable: another user gets none of it.
        shop.program("crontab", &format!("CRONTAB='{}'\n{CRONTAB}", file.display()));
        let text = text.replace("{}", shop.root.path().to_str().unwrap());
        fs::write(&file, text).unwrap();
        Self { shop }
    }

    fn text(&self) -> String {
        self.side("")
    }

    /// What the fake program keeps beside it.
    fn side(&self, ending: &str) -> String {
        fs::read_to_string(self.shop.root.beside(format!("crontab{ending}"))).unwrap_or_default()
    }

    fn writes(&self) -> usize {
        self.side(".writers").lines().count()
    }

    #[track_caller]
    fn held(&self) -> Reply {
        self.shop.run("magento_cron", json!({"state": "held", "wait": 0}))
    }

    #[track_caller]
    fn running(&self, release: &str) -> Reply {
        self.shop.run("magento_cron", self.to(release))
    }

    fn to(&self, release: &str) -> Value {
        json!({"state": "running", "path": self.shop.root.at("releases").join(release)})
    }

    /// What Magento's `cron:install` of a release writes.
    fn installed_by(&self, release: &str) -> String {
        let root = self.shop.root.at("releases").join(release).display().to_string();
        let mark = sha256(&root);
        format!(
            "#~ MAGENTO START {mark}\n\
             * * * * * /usr/bin/php8.2 {root}/bin/magento cron:run 2>&1 | grep -v \"Ran jobs by schedule\" >> {root}/var/log/magento.cron.log\n\
             #~ MAGENTO END {mark}\n"
        )
    }
}

/// By another program than the module's own code.
fn sha256(text: &str) -> String {
    let script = "printf %s \"$0\" | sha256sum";
    let output = std::process::Command::new("sh").args(["-c", script, text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

const ODD: &str = "# m h dom mon dow command\n\
    MAILTO=\"ops@example.com\"\n\
    \t\n\
    */5  * * * *\tphp {}/current/bin/magento cron:run --group=index >/dev/null 2>&1\n\
    * * * * * cd {}/current && php bin/magento queue:consumers:start x % stdin \\% line\n\
    #0 1 * * * php {}/releases/1/bin/magento off\n\
    0 3 * * * /usr/local/bin/backup {}/current/pub\n\
    * * * * * php {}2/current/bin/magento cron:run\n\
    * * * * * php /mnt{}/current/bin/magento cron:run\n\
    @reboot \u{fc}\u{1f600} true\n\n\n";

#[test]
fn held_and_let_go_on_every_byte_is_back() {
    for text in [
        ODD,
        "* * * * * php {}/current/bin/magento cron:run",
        "\n* * * * * php {}/releases/1/bin/magento cron:run\r\n\r\n",
        "#~ MAGENTO START 0123\n* * * * * php {}/releases/1/bin/magento cron:run\n#~ MAGENTO END 0123\n",
    ] {
        let cron = Cron::new(text);
        let before = cron.text();
        let reply = cron.held().changed();
        let jobs = reply["jobs"].as_array().unwrap();
        assert!(!jobs.is_empty(), "{reply}");
        for job in jobs {
            let job = job.as_str().unwrap();
            assert!(cron.text().contains(&format!("#oxistrano-held# {job}")), "{job}");
        }
        let held = cron.text();
        let _ = cron.held().unchanged();
        assert_eq!(cron.text(), held);
        assert_eq!(cron.writes(), 1);
        let _ = cron.shop.run("magento_cron", json!({"state": "running"})).changed();
        assert_eq!(cron.text(), before);
        let _ = cron.shop.run("magento_cron", json!({"state": "running"})).unchanged();
        assert_eq!(cron.writes(), 2);
    }
}

#[test]
fn only_lines_of_this_shop_are_held() {
    let cron = Cron::new(ODD);
    let before = cron.text();
    let reply = cron.held().changed();
    assert_eq!(reply["jobs"].as_array().unwrap().len(), 2, "{reply}");
    reply.says(["2 cron jobs are disabled"]);
    let held = cron.text();
    let differ: Vec<usize> = before
        .split('\n')
        .zip(held.split('\n'))
        .enumerate()
        .filter(|(_, (before, after))| before != after)
        .map(|(number, _)| number)
        .collect();
    assert_eq!(differ, [3, 4]);
}

#[test]
fn what_cron_install_of_the_old_release_wrote_is_led_to_the_new_one() {
    let cron = Cron::new("");
    let file = cron.shop.root.beside("crontab");
    let around = |part: &str| format!("MAILTO=x\n{part}0 4 * * * /usr/local/bin/backup\n");
    fs::write(&file, around(&cron.installed_by("1"))).unwrap();
    let _ = cron.held().changed();
    let _ = cron.running("2").changed();
    // To the byte what cron:install of release 2 writes, so that its cron:remove finds it.
    assert_eq!(cron.text(), around(&cron.installed_by("2")));
    let _ = cron.running("2").unchanged();
    // Back again, without having been held; and it is back as it was.
    let _ = cron.running("1").changed();
    assert_eq!(cron.text(), around(&cron.installed_by("1")));
}

#[test]
fn a_deploy_root_behind_a_link_is_the_same_shop() {
    let cron = Cron::new("");
    let file = cron.shop.root.beside("crontab");
    // Magento writes the path without links.
    fs::write(&file, cron.installed_by("1")).unwrap();
    let link = cron.shop.root.beside("www");
    symlink(cron.shop.root.path(), &link).unwrap();
    let held = json!({"state": "held", "wait": 0, "deploy_to": link});
    assert_eq!(cron.shop.run("magento_cron", held).changed()["jobs"].as_array().unwrap().len(), 1);
    let running = json!({"state": "running", "deploy_to": link, "path": link.join("releases/2")});
    let _ = cron.shop.run("magento_cron", running).changed();
    assert_eq!(cron.text(), cron.installed_by("2"));
}

#[test]
fn check_mode_shows_the_lines_and_writes_nothing() {
    let cron = Cron::new(ODD);
    let before = cron.text();
    let reply = cron.shop.check("magento_cron", json!({"state": "held"})).changed();
    assert_eq!(reply["diff"]["before"], before);
    let after = reply["diff"]["after"].as_str().unwrap();
    assert_eq!(after.matches("#oxistrano-held# ").count(), 2, "{after}");
    assert_eq!((cron.text(), cron.writes()), (before, 0));
    let _ = cron.shop.check("magento_cron", cron.to("2")).unchanged();
}

#[test]
fn a_crontab_that_is_refused_stays_as_it_was() {
    let cron = Cron::new("* * * * * php {}/releases/1/bin/magento cron:run\n");
    let before = cron.text();
    fs::write(cron.shop.root.beside("crontab.refused"), "").unwrap();
    let reply = cron.held().failed("command_failed");
    reply.says(["`crontab -` failed", "errors in crontab file", "The crontab is as it was."]);
    assert_eq!(cron.text(), before);
}

#[test]
fn a_crontab_that_cannot_be_read_is_not_written() {
    let cron = Cron::new("* * * * * php {}/releases/1/bin/magento cron:run\n");
    let before = cron.text();
    fs::write(cron.shop.root.beside("crontab.denied"), "").unwrap();
    for reply in [cron.held(), cron.running("2")] {
        reply
            .failed("crontab")
            .says(["cannot read the crontab", "not allowed to use this program"]);
    }
    fs::remove_file(cron.shop.root.beside("crontab.denied")).unwrap();
    cron.shop.program("crontab", "kill -9 $$");
    let _ = cron.held().failed("crontab");
    fs::write(cron.shop.root.beside("crontab"), &before).unwrap();
    assert_eq!((cron.text(), cron.writes()), (before, 0));
}

#[test]
fn a_crontab_in_any_encoding_stays_as_it_is_to_the_byte() {
    let cron = Cron::new("");
    let file = cron.shop.root.beside("crontab");
    let around = |part: String| {
        [b"# B\xfcro \xff\xfe\xa0\x85 \xc3\xbc\n", part.as_bytes(), b"MAILTO=\xe4"].concat()
    };
    let before = around(cron.installed_by("1"));
    fs::write(&file, &before).unwrap();
    let reply = cron.held().changed();
    assert_eq!(reply["jobs"].as_array().unwrap().len(), 1, "{reply}");
    let _ = cron.shop.run("magento_cron", json!({"state": "running"})).changed();
    assert_eq!(fs::read(&file).unwrap(), before);
    let _ = cron.running("2").changed();
    assert_eq!(fs::read(&file).unwrap(), around(cron.installed_by("2")));
}

#[test]
fn a_user_without_a_crontab_has_no_jobs() {
    let cron = Cron::new("");
    fs::remove_file(cron.shop.root.beside("crontab")).unwrap();
    let reply = cron.held().unchanged();
    assert_eq!(reply["jobs"], json!([]));
    reply.says(["no cron jobs of this shop are disabled"]);
    let _ = cron.running("2").unchanged();
    assert_eq!(cron.writes(), 0);
    assert!(!cron.shop.root.beside("crontab").exists());
}

#[test]
fn a_host_without_cron_has_no_jobs() {
    let mut shop = Shop::new();
    // The last of two wins.
    shop.set("PATH", "/nonexistent");
    let reply = shop.run("magento_cron", json!({"state": "held", "wait": 0})).unchanged();
    assert_eq!(reply["jobs"], json!([]));
}

#[test]
fn root_edits_the_crontab_of_the_shop_s_user_as_that_user() {
    if !is_root() {
        return not_checked("the crontab of another user");
    }
    let cron = Cron::new("* * * * * php {}/releases/1/bin/magento cron:run\n");
    let root = &cron.shop.root;
    fs::set_permissions(root.beside(""), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(root.beside("crontab"), fs::Permissions::from_mode(0o666)).unwrap();
    let arguments = json!({"state": "held", "wait": 0, "user": "www-data"});
    let _ = cron.shop.run("magento_cron", arguments).changed();
    assert_eq!(
        (cron.side(".readers"), cron.side(".writers")),
        ("www-data\n".into(), "www-data\n".into())
    );
    let arguments = json!({"state": "held", "wait": 0, "user": "nobody-at-all"});
    let _ = cron.shop.run("magento_cron", arguments).failed("no_such_user");
    let arguments = json!({"state": "held", "wait": 0, "user": "www-data"});
    let reply = cron.shop.run_as(NOBODY, "magento_cron", arguments).failed("command_failed");
    reply.says(["only root can run it as www-data"]);
}
