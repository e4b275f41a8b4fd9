//! The crontab of a user, and the lines in it that belong to a deploy root.
//!
//! Magento writes, between two comments with the SHA-256 of its root directory, lines with
//! that directory's real path (`Magento\Framework\Crontab\CrontabManager`). So they go on
//! running the release that wrote them, and `cron:remove` of another release does not find
//! them. Here they are led to the live one, comments included.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oxistrano_core::command::Program;
use oxistrano_core::users::User;
use oxistrano_core::{Failure, show};
use oxistrano_magento::Place;
use sha2::{Digest, Sha256};

/// Bytes of a job that are shown, and characters of what `crontab` says.
const SHOWN: usize = 1000;
/// The limit for a crontab, which normally has a few kilobytes.
const LARGEST: usize = 1 << 20;
/// The prefix of a disabled line.
const HELD: &str = "#oxistrano-held# ";
const START: &str = "#~ MAGENTO START";
const END: &str = "#~ MAGENTO END";
const COMMAND: &str = "bin/magento";

/// One character for each byte: the encoding of a crontab is not known, and no byte may change.
pub fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn of_path(path: &Path) -> String {
    characters(path.as_os_str().as_bytes())
}

/// The reverse.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}

/// The text for people.
pub fn readable(text: &str) -> String {
    String::from_utf8_lossy(&bytes(text)).into_owned()
}

/// The root that a line names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Root {
    Release(String),
    Current,
}

/// The root of Magento that a line names.
fn root_in(place: &Place, line: &str) -> Option<Root> {
    for releases in &place.releases {
        let releases = format!("{}/", of_path(releases));
        for at in places_of(line, &releases) {
            let version = &line[at + releases.len()..];
            let end = version.find(ends_name).unwrap_or(version.len());
            if end > 0 {
                return Some(Root::Release(format!("{releases}{}", &version[..end])));
            }
        }
    }
    let names_it = |current: &PathBuf| {
        let current = of_path(current);
        let mut places = places_of(line, &current);
        places.any(|at| line[at + current.len()..].chars().next().is_none_or(ends_name))
    };
    place.current.iter().any(names_it).then_some(Root::Current)
}

/// Whether the name of a release ends before this.
fn ends_name(c: char) -> bool {
    c.is_ascii_whitespace() || "/\"';&|<>()".contains(c)
}

/// The offsets at which a path begins in a line, not within a longer path.
fn places_of<'a>(line: &'a str, path: &'a str) -> impl Iterator<Item = usize> + 'a {
    line.match_indices(path).map(|(at, _)| at).filter(|at| {
        let before = line[..*at].chars().next_back();
        before.is_none_or(|c| c.is_ascii_whitespace() || "\"'=:;&|<>(".contains(c))
    })
}

/// The line with this root replaced by another path; longer names that begin with the root stay.
fn led(line: &str, root: &str, path: &str) -> String {
    let mut led = String::new();
    let mut done = 0;
    for at in places_of(line, root) {
        let end = at + root.len();
        if line[end..].chars().next().is_none_or(ends_name) {
            led.push_str(&line[done..at]);
            led.push_str(path);
            done = end;
        }
    }
    led + &line[done..]
}

/// A crontab.
pub struct Crontab {
    user: Option<User>,
    /// Its text, a character for each byte.
    pub text: String,
}

/// The wanted crontab.
pub struct Edited {
    /// Its text, a character for each byte.
    pub text: String,
    /// The lines of the shop in it, enabled.
    pub jobs: Vec<String>,
}

impl Crontab {
    /// Reads it; a user without one has an empty one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(user: Option<User>) -> Result<Self, Failure> {
        let output = match program(user.as_ref(), "-l").run() {
            Ok(output) => output,
            // Without the program crontab, there are no jobs.
            Err(failure) if failure.is_missing_program() => {
                return Ok(Self { user, text: String::new() });
            }
            Err(failure) => return Err(failure),
        };
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        // The messages of cron and of BusyBox.
        let none = error.contains("no crontab for") || error.contains("No such file or directory");
        if !output.status.success() && !none {
            let cause = show::line(error.trim(), SHOWN);
            return Err(Failure::new("crontab", "cannot read the crontab").cause(cause));
        }
        if !output.complete {
            return Err(Failure::new("crontab", "cannot read the crontab")
                .cause("the output of crontab may be incomplete")
                .state("Nothing was changed."));
        }
        if output.stdout.len() > LARGEST {
            return Err(Failure::new("crontab", "cannot read the crontab")
                .cause(format!("it has more than {LARGEST} bytes"))
                .remedy("check its contents (crontab -l)")
                .state("Nothing was changed."));
        }
        Ok(Self { user, text: characters(&output.stdout) })
    }

    /// Replaces its text.
    ///
    /// # Errors
    /// When `crontab` refuses it; the old one stays.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        program(self.user.as_ref(), "-")
            .input(bytes(text))
            .run_ok()
            .map(drop)
            .map_err(|failure| failure.state("The crontab is as it was."))
    }

    /// Comments out all lines of the shop.
    pub fn held(&self, place: &Place) -> Edited {
        self.edit(place, |line, _| format!("{HELD}{line}"))
    }

    /// Enables all lines of the shop, with `path` if that is set.
    pub fn running(&self, place: &Place, path: Option<&Path>) -> Edited {
        let path = path.map(of_path);
        self.edit(place, |line, root| match (&path, root) {
            (Some(path), Root::Release(root)) => led(line, root, path),
            _ => line.to_owned(),
        })
    }

    /// Changes each line of the shop by `change`, which gets the enabled line and the root in it. All other bytes stay.
    fn edit(&self, place: &Place, change: impl Fn(&str, &Root) -> String) -> Edited {
        let mut jobs = Vec::new();
        let mut lines: Vec<String> = Vec::new();
        // The start of Magento's block, and the new root of its lines.
        let mut part: Option<(usize, Option<String>)> = None;
        // Without an end mark, the extent of a block is not known.
        let last_end = self.text.split_inclusive('\n').enumerate();
        let last_end =
            last_end.filter(|(_, line)| line.strip_prefix(HELD).unwrap_or(line).starts_with(END));
        let last_end = last_end.map(|(number, _)| number).last().unwrap_or(0);
        for whole in self.text.split_inclusive('\n') {
            let line = whole.strip_suffix('\n').unwrap_or(whole);
            let end = &whole[line.len()..];
            let running = line.strip_prefix(HELD).unwrap_or(line);
            if running.starts_with(START) {
                part = Some((lines.len(), None));
            }
            if running.starts_with(END)
                && let Some((start, Some(root))) = part.take()
            {
                let digest = digest(&root);
                lines[start] = format!("{START} {digest}\n");
                lines.push(format!("{END} {digest}{end}"));
                continue;
            }
            let is_comment = running.trim_ascii_start().starts_with('#');
            // All lines between the marks are Magento's: update/cron.php, and jobs of modules.
            let is_job = running.contains(COMMAND) || part.is_some() && lines.len() < last_end;
            match root_in(place, running).filter(|_| !is_comment && is_job) {
                None => lines.push(whole.to_owned()),
                Some(root) => {
                    let changed = change(running, &root);
                    let now = root_in(place, changed.strip_prefix(HELD).unwrap_or(&changed));
                    if let (Some((_, of_part)), Some(Root::Release(now))) = (&mut part, now)
                        && root != Root::Release(now.clone())
                    {
                        *of_part = Some(now);
                    }
                    jobs.push(show::text(readable(running).trim_end(), SHOWN));
                    lines.push(changed + end);
                }
            }
        }
        Edited { text: lines.concat(), jobs }
    }
}

fn digest(root: &str) -> String {
    Sha256::digest(bytes(root)).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn program(user: Option<&User>, argument: &str) -> Program {
    // As that user, not with -u, which only root may use and some crons do not have.
    Program::new(["crontab", argument]).user(user.cloned()).timeout(Duration::from_secs(20))
}

#[cfg(test)]
mod tests {
    use oxistrano_core::RelPath;

    use super::*;

    fn place() -> Place {
        let [releases, current] = ["releases", "current"].map(|path| RelPath::new(path).unwrap());
        Place::new(Path::new("/srv/shop"), &releases, &current)
    }

    fn of_magento(root: &str) -> String {
        let digest = digest(root);
        format!(
            "MAILTO=ops@example.com\n\
             #~ MAGENTO START {digest}\n\
             * * * * * /usr/bin/php8.2 {root}/bin/magento cron:run 2>&1 | grep -v \"Ran jobs\" >> {root}/var/log/magento.cron.log\n\
             #~ MAGENTO END {digest}\n\
             * * * * * /usr/bin/php /srv/shop2/current/bin/magento cron:run\n\
             # /srv/shop/current/bin/magento is ours\n\
             0 3 * * * /usr/local/bin/backup /srv/shop/current/pub\n"
        )
    }

    fn crontab(text: &str) -> Crontab {
        Crontab { user: None, text: text.to_owned() }
    }

    #[test]
    fn the_lines_of_the_shop_are_held_and_let_go_on() {
        let before = of_magento("/srv/shop/releases/1");
        let held = crontab(&before).held(&place());
        assert_eq!(held.jobs.len(), 1);
        assert!(
            held.text
                .contains("\n#oxistrano-held# * * * * * /usr/bin/php8.2 /srv/shop/releases/1/")
        );
        assert_eq!(crontab(&held.text).held(&place()).text, held.text, "twice");
        let back = crontab(&held.text).running(&place(), None);
        assert_eq!(back.text, before);
    }

    #[test]
    fn they_are_led_to_the_new_release_with_their_marks() {
        let before = of_magento("/srv/shop/releases/1");
        let after = of_magento("/srv/shop/releases/2");
        let path = Path::new("/srv/shop/releases/2");
        let held = crontab(&before).held(&place());
        assert_eq!(crontab(&held.text).running(&place(), Some(path)).text, after);
        assert_eq!(crontab(&before).running(&place(), Some(path)).text, after, "never held");
        assert_eq!(crontab(&after).running(&place(), Some(path)).text, after, "there already");
    }

    #[test]
    fn lines_through_current_keep_their_path() {
        let line =
            "*/5 * * * * cd /srv/shop/current/ && php /srv/shop/current/bin/magento cron:run\n";
        let running = crontab(line).running(&place(), Some(Path::new("/srv/shop/releases/2")));
        assert_eq!(running.text, line);
        assert_eq!(running.jobs.len(), 1);
        assert!(crontab(line).held(&place()).text.starts_with(HELD));
    }

    #[test]
    fn a_name_that_begins_alike_is_another() {
        let line = "* * * * * php /srv/shop/releases/1/bin/magento cron:run >> \
                    /srv/shop/releases/1-log/x; cp /mnt/srv/shop/releases/1/x /srv/shop/releases/1\n";
        let running = crontab(line).running(&place(), Some(Path::new("/srv/shop/releases/2")));
        assert_eq!(
            running.text,
            "* * * * * php /srv/shop/releases/2/bin/magento cron:run >> \
             /srv/shop/releases/1-log/x; cp /mnt/srv/shop/releases/1/x /srv/shop/releases/2\n"
        );
        let line = "* * * * * ls /srv/shop/releases/ && php /srv/shop/releases/1/bin/magento x\n";
        assert_eq!(crontab(line).held(&place()).jobs.len(), 1);
    }

    #[test]
    fn marks_of_another_kind_stay_while_the_lines_do() {
        // As a container writes them: the path is not the host's.
        let text = of_magento("/srv/shop/releases/1").replace(&digest("/srv/shop/releases/1"), "x");
        let held = crontab(&text).held(&place());
        assert!(held.text.contains("#~ MAGENTO START x\n"), "{}", held.text);
        assert_eq!(crontab(&held.text).running(&place(), None).text, text);
    }

    #[test]
    fn every_line_between_the_marks_that_names_the_root_is_a_job() {
        let own = "* * * * * php /srv/shop/releases/1/update/cron.php\n5 * * * * true\n";
        let outside = "7 * * * * php /srv/shop/releases/1/own.php\n";
        let text = format!("#~ MAGENTO START x\n{own}#~ MAGENTO END x\n{outside}");
        let held = crontab(&text).held(&place());
        assert_eq!(held.jobs, ["* * * * * php /srv/shop/releases/1/update/cron.php"]);
        assert_eq!(crontab(&held.text).running(&place(), None).text, text);
        let path = Path::new("/srv/shop/releases/2");
        let led = crontab(&held.text).running(&place(), Some(path)).text;
        let mark = digest("/srv/shop/releases/2");
        let own = own.replace("releases/1", "releases/2");
        assert_eq!(led, format!("#~ MAGENTO START {mark}\n{own}#~ MAGENTO END {mark}\n{outside}"));
        // Where the part ends nobody knows.
        let text = format!("#~ MAGENTO START x\n{outside}");
        assert_eq!(crontab(&text).held(&place()).text, text);
    }

    #[test]
    fn line_ends_stay_as_they_are() {
        let line = "* * * * * php /srv/shop/current/bin/magento cron:run";
        for text in [format!("{line}\r\n\r\nx\r\n"), format!("\n\n{line}"), format!("{line}\n\n")] {
            let held = crontab(&text).held(&place());
            assert_eq!(held.text, text.replace(line, &format!("{HELD}{line}")));
            assert_eq!(crontab(&held.text).running(&place(), None).text, text);
        }
    }

    proptest::proptest! {
        #[test]
        fn holding_and_letting_go_gives_every_byte_back(words in words()) {
            let text: String = words.concat();
            let held = crontab(&text).held(&place());
            proptest::prop_assert_eq!(&crontab(&held.text).held(&place()).text, &held.text);
            let back = crontab(&held.text).running(&place(), None);
            proptest::prop_assert_eq!(&back.text, &text);
            proptest::prop_assert_eq!(&back.jobs, &held.jobs);
        }

        #[test]
        fn only_lines_of_the_shop_are_led(words in words()) {
            let text: String = words.concat();
            let path = Path::new("/srv/shop/releases/9");
            let led = crontab(&text).running(&place(), Some(path));
            proptest::prop_assert_eq!(&crontab(&led.text).running(&place(), Some(path)).text, &led.text);
            proptest::prop_assert_eq!(text.split('\n').count(), led.text.split('\n').count());
            for (before, after) in text.split('\n').zip(led.text.split('\n')) {
                let is_mark = before.starts_with("#~ MAGENTO");
                let is_part = before.contains(COMMAND) || text.contains(START) && text.contains(END);
                let is_job = is_part && before.contains("/srv/shop/releases/");
                proptest::prop_assert!(before == after || is_mark || is_job, "{} {}", before, after);
            }
        }
    }

    /// Pieces of crontabs, so that whole lines come together often.
    fn words() -> impl proptest::strategy::Strategy<Value = Vec<String>> {
        use proptest::prelude::*;
        let word = prop_oneof![
            4 => Just("\n".to_owned()),
            4 => Just("* * * * * php /srv/shop/releases/1/bin/magento cron:run".to_owned()),
            6 => prop::sample::select(vec![
                "#~ MAGENTO START abc\n", "#~ MAGENTO END abc\n", "#~ MAGENTO END", "# ", "\r\n", " ",
                "/srv/shop/releases/", "/srv/shop/releases/1", "/srv/shop/releases/12/bin/magento",
                "/srv/shop/current/bin/magento cron:run", "/srv/shop2/current/bin/magento", "\"", "'",
                "bin/magento", ">> /srv/shop/releases/1/var/log/x", "MAILTO=x", "%", "=", ";",
            ]).prop_map(str::to_owned),
            1 => "\\PC{0,6}",
        ];
        prop::collection::vec(word, 0..30)
    }

    #[test]
    fn nothing_else_is_touched() {
        for text in [
            "",
            "* * * * * true\n",
            "x /srv/shop/releases-old/1/bin/magento\n",
            "x /mnt/srv/shop/current/bin/magento y\n",
        ] {
            let edited = crontab(text).held(&place());
            assert_eq!((edited.text.as_str(), edited.jobs.len()), (text, 0));
        }
    }
}
