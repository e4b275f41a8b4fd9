//! The crontab of a user, and the lines in it that belong to a deploy root.
//!
//! Magento writes, between two comments with the SHA-256 of its root directory, lines with
//! that directory's real path (`Magento\Framework\Crontab\CrontabManager`). So they go on
//! running the release that wrote them, and `cron:remove` of another release does not find
//! them. Here they are led to the live one, comments included.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oxistrano_core::command::Program;
use oxistrano_core::users::User;
use oxistrano_core::Failure;
use sha2::{Digest, Sha256};

/// What makes a comment of a line that is held back.
const HELD: &str = "#oxistrano-held# ";
const START: &str = "#~ MAGENTO START";
const END: &str = "#~ MAGENTO END";
const COMMAND: &str = "bin/magento";

/// Where the lines of a shop lead.
pub struct Place {
    /// The directory of its releases.
    pub releases: PathBuf,
    /// What leads to the live one.
    pub current: PathBuf,
}

impl Place {
    /// The root of Magento that a line names.
    fn root_in(&self, line: &str) -> Option<String> {
        let releases = format!("{}/", self.releases.display());
        let current = format!("{}/", self.current.display());
        if let Some(at) = find(line, &releases) {
            let version: String = line[at + releases.len()..]
                .chars()
                .take_while(|c| !c.is_whitespace() && !"/\"';&|<>()".contains(*c))
                .collect();
            return (!version.is_empty()).then(|| releases + &version);
        }
        find(line, &current).map(|_| self.current.display().to_string())
    }
}

/// Where a path begins in a line, not in the middle of a longer one.
fn find(line: &str, path: &str) -> Option<usize> {
    line.match_indices(path).map(|(at, _)| at).find(|at| {
        let before = line[..*at].chars().next_back();
        before.is_none_or(|c| c.is_whitespace() || "\"'=:;&|<>(".contains(c))
    })
}

/// A crontab.
pub struct Crontab {
    user: Option<User>,
    /// Its text.
    pub text: String,
}

/// A crontab as it should be.
pub struct Edited {
    /// Its text.
    pub text: String,
    /// The lines of the shop in it, as they run.
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
            // Without the program there are no jobs.
            Err(failure) if failure.to_string().contains("there is no program") => {
                return Ok(Self { user, text: String::new() })
            }
            Err(failure) => return Err(failure),
        };
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() && !error.contains("no crontab for") {
            return Err(Failure::new("crontab", "cannot read the crontab").cause(error.trim()));
        }
        let text = String::from_utf8(output.stdout).map_err(|_| {
            Failure::new("crontab", "cannot read the crontab").cause("it is not UTF-8")
        })?;
        Ok(Self { user, text })
    }

    /// Puts another text in its place.
    ///
    /// # Errors
    /// When `crontab` refuses it; the old one stays then.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        program(self.user.as_ref(), "-")
            .input(text)
            .run_ok()
            .map(drop)
            .map_err(|failure| failure.state("The crontab is as it was."))
    }

    /// With every line of the shop as a comment.
    pub fn held(&self, place: &Place) -> Edited {
        self.edit(place, |line, _| format!("{HELD}{line}"))
    }

    /// With every line of the shop running, in `path` if that is given.
    pub fn running(&self, place: &Place, path: Option<&Path>) -> Edited {
        let path = path.map(|path| path.display().to_string());
        self.edit(place, |line, root| match &path {
            Some(path) if root != place.current.display().to_string() => line.replace(root, path),
            _ => line.to_owned(),
        })
    }

    /// Each line of the shop as `change` makes it of the line as it runs and the root that
    /// it names.
    fn edit(&self, place: &Place, change: impl Fn(&str, &str) -> String) -> Edited {
        let mut jobs = Vec::new();
        let mut lines: Vec<String> = Vec::new();
        // The start of Magento's part, and the root that its lines name.
        let mut part: Option<(usize, String)> = None;
        for line in self.text.lines() {
            let running = line.strip_prefix(HELD).unwrap_or(line);
            if running.starts_with(START) {
                part = Some((lines.len(), String::new()));
            }
            if running.starts_with(END) {
                if let Some((start, root)) = part.take().filter(|(_, root)| !root.is_empty()) {
                    let digest = digest(&root);
                    lines[start] = format!("{START} {digest}");
                    lines.push(format!("{END} {digest}"));
                    continue;
                }
            }
            let is_comment = running.trim_start().starts_with('#');
            match place.root_in(running).filter(|_| !is_comment && running.contains(COMMAND)) {
                None => lines.push(line.to_owned()),
                Some(root) => {
                    let changed = change(running, &root);
                    if let Some((_, of_part)) = &mut part {
                        let now = changed.strip_prefix(HELD).unwrap_or(&changed);
                        *of_part = place.root_in(now).unwrap_or(root);
                    }
                    jobs.push(running.to_owned());
                    lines.push(changed);
                }
            }
        }
        let mut text = lines.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        Edited { text, jobs }
    }
}

fn digest(root: &str) -> String {
    Sha256::digest(root.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn program(user: Option<&User>, argument: &str) -> Program {
    // As that user, not with -u: that is root's alone, and not every cron has it.
    Program::new(["crontab", argument]).user(user.cloned()).timeout(Duration::from_secs(20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { releases: "/srv/shop/releases".into(), current: "/srv/shop/current".into() }
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
        assert!(held
            .text
            .contains("\n#oxistrano-held# * * * * * /usr/bin/php8.2 /srv/shop/releases/1/"));
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
