//! The background processes of a shop: its cron jobs and its queue consumers.

use std::path::{Path, PathBuf};

use oxistrano_core::process::Process;
use oxistrano_core::show;

/// The number of characters of a command line that are shown.
const SHOWN: usize = 200;
/// How many processes a message names.
const NAMED: usize = 20;

/// What a process of the shop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// `cron:run`.
    Cron,
    /// `queue:consumers:start`.
    Consumer,
}

/// A process of the shop.
#[derive(Debug)]
pub struct Job {
    /// The process.
    pub process: Process,
    /// What it does.
    pub task: Task,
    /// The path of `bin/magento` in its command line, made absolute with the process's directory.
    pub program: PathBuf,
    line: String,
}

impl Job {
    /// Its command line, shortened, and its process id.
    pub fn name(&self) -> String {
        format!("{} ({})", self.line, self.process.pid())
    }
}

/// Limits the names for a message.
pub fn named(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    names.extend((more > 0).then(|| format!("{more} more")));
    names
}

/// The jobs of the shop. All user ids of such a process must be the shop user's: a setuid program
/// is neither examined nor signalled.
pub fn running(uid: u32, roots: &[PathBuf]) -> Vec<Job> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let process = Process::open(entry.file_name().to_str()?.parse().ok()?).ok()?;
            (process.users().ok()? == [uid; 4]).then_some(())?;
            let words = process.read("cmdline").ok()?;
            let words: Vec<String> = words
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .filter(|word| !word.is_empty())
                .collect();
            let directory = process.link("cwd").unwrap_or_default();
            let (task, program) = task(&words, &directory, roots)?;
            Some(Job { process, task, program, line: show::line(&words.join(" "), SHOWN) })
        })
        .collect()
}

/// The task of a command line, if it is one of the shop: `php /…/bin/magento cron:run`, with an
/// absolute path or one relative to the process's directory. A shell with the command in one word
/// is only the parent of such a process.
fn task(words: &[String], directory: &Path, roots: &[PathBuf]) -> Option<(Task, PathBuf)> {
    // From its first job on, `cron:run` has a title in place of its command line: all in one word, and
    // `# group: default, job: indexer_reindex_all_invalid` behind it (2.4.5 and newer).
    if let [title] = words
        && title.contains(' ')
    {
        let words: Vec<String> = title.split(' ').map(str::to_owned).collect();
        return task(&words, directory, roots);
    }
    let at = words.iter().position(|word| word.ends_with("bin/magento"))?;
    let program = directory.join(&words[at]);
    roots.iter().any(|root| program.starts_with(root)).then_some(())?;
    // Options may come before the command.
    let task = match words[at + 1..].iter().find(|word| !word.starts_with('-'))?.as_str() {
        "cron:run" => Task::Cron,
        "queue:consumers:start" => Task::Consumer,
        _ => return None,
    };
    Some((task, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str, directory: &str) -> Option<Task> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        task(
            &words,
            Path::new(directory),
            &["/srv/shop/releases".into(), "/srv/shop/current".into()],
        )
        .map(|(task, _)| task)
    }

    #[test]
    fn jobs_are_known_by_their_command_line() {
        assert_eq!(
            of("php /srv/shop/releases/1/bin/magento cron:run --group=x", "/"),
            Some(Task::Cron)
        );
        let consumer = "php bin/magento queue:consumers:start async";
        assert_eq!(of(consumer, "/srv/shop/releases/1"), Some(Task::Consumer));
        assert_eq!(of(consumer, "/srv/shop2/current"), None);
        assert_eq!(of("php /srv/shop/releases/1/bin/magento setup:upgrade", "/"), None);
        assert_eq!(of("vim /srv/shop/releases/1/app", "/"), None);
        let of_words = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            task(&words, Path::new("/"), &["/srv/shop/releases".into()]).map(|(task, _)| task)
        };
        let title =
            "/usr/bin/php8.2 /srv/shop/releases/1/bin/magento cron:run # group: default, job: x";
        assert_eq!(of_words(&[title]), Some(Task::Cron));
        let shell = "php /srv/shop/releases/1/bin/magento cron:run >> /dev/null";
        assert_eq!(of_words(&["/bin/sh", "-c", shell]), None);
    }
}
