//! What the cron jobs of a shop have started.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::process::Process;
use oxistrano_core::{interrupt, show, Failure};
use rustix::process::Signal;

/// Characters of a command line that are shown: it is as long as who started it wants.
const SHOWN: usize = 200;
/// How many of those that have not ended are named.
const NAMED: usize = 20;

/// What a process of the shop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Cron,
    Consumer,
}

#[derive(Debug)]
struct Job {
    process: Process,
    task: Task,
    line: String,
}

/// Asks the queue consumers to end.
pub fn stop_consumers(uid: u32, roots: &[PathBuf]) {
    for job in running(uid, roots).iter().filter(|job| job.task == Task::Consumer) {
        // It may have ended by itself; one that cannot be asked is told of as still running.
        let _ = job.process.signal(Signal::TERM);
    }
}

/// Waits until the jobs have ended, and the consumers if they were stopped. Returns those
/// that have not.
///
/// # Errors
/// When a signal comes.
pub fn wait(
    uid: u32,
    roots: &[PathBuf],
    consumers: bool,
    patience: Duration,
) -> Result<Vec<String>, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let mut left: Vec<String> = running(uid, roots)
            .into_iter()
            .filter(|job| consumers || job.task == Task::Cron)
            .map(|job| format!("{} ({})", job.line, job.process.pid()))
            .collect();
        if left.is_empty() || Instant::now() >= deadline {
            let more = left.len().saturating_sub(NAMED);
            left.truncate(NAMED);
            left.extend((more > 0).then(|| format!("{more} more")));
            return Ok(left);
        }
        interrupt::check()?;
        sleep(Duration::from_millis(100));
    }
}

/// The jobs of the shop. Only what belongs to its user altogether is one: what a setuid program
/// of root's is called with is not asked, and it gets no signal.
fn running(uid: u32, roots: &[PathBuf]) -> Vec<Job> {
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
            let task = task(&words, &directory, roots)?;
            Some(Job { process, task, line: show::line(&words.join(" "), SHOWN) })
        })
        .collect()
}

/// What a command line does, if it is one of the shop: `php /…/bin/magento cron:run`, its
/// path whole or relative to the process's directory. A shell that has it in one word is
/// the parent of one of these.
fn task(words: &[String], directory: &Path, roots: &[PathBuf]) -> Option<Task> {
    let at = words.iter().position(|word| word.ends_with("bin/magento"))?;
    let program = directory.join(&words[at]);
    roots.iter().any(|root| program.starts_with(root)).then_some(())?;
    // Options may stand before the command.
    match words[at + 1..].iter().find(|word| !word.starts_with('-')).map(String::as_str) {
        Some("cron:run") => Some(Task::Cron),
        Some("queue:consumers:start") => Some(Task::Consumer),
        _ => None,
    }
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
    }
}
