//! Whether database and configuration match a release.
//!
//! The exit code counts only together with Magento's own words: 0 from a program that is not
//! Magento (`true`, a wrapper that drops the code) does not mean "up to date", and 2 is also a
//! shell's exit code for a syntax error.

use std::time::Duration;

use oxistrano_core::Failure;
use oxistrano_core::json::{Value, json};

use crate::question::{CONFIGURATION, DATABASE, Question};
use crate::{Answer, Magento};

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do.
    UpToDate,
    /// `setup:upgrade` or `app:config:import` has to run.
    Needed,
    /// Not known.
    CannotTell,
}

/// One of the two questions.
#[derive(Debug, Clone)]
pub struct Status {
    /// The result.
    pub verdict: Verdict,
    /// Why it is not known.
    pub reason: Option<String>,
    /// What Magento answered, if it did.
    pub answer: Option<Answer>,
}

/// The exit code for "needed" of both commands.
const NEEDED: i32 = 2;

/// Asks `setup:db:status` (1.7 to 2.1 s).
pub fn database(magento: &Magento, timeout: Duration) -> Status {
    DATABASE.ask(magento, timeout)
}

/// Asks `app:config:status` (0.4 s).
pub fn configuration(magento: &Magento, timeout: Duration) -> Status {
    CONFIGURATION.ask(magento, timeout)
}

impl Question {
    fn ask(&self, magento: &Magento, timeout: Duration) -> Status {
        match magento.ask(&[self.command], timeout) {
            Ok(answer) => self.judge(answer),
            Err(failure) => Status {
                verdict: Verdict::CannotTell,
                reason: Some(failure.to_string()),
                answer: None,
            },
        }
    }

    fn judge(&self, answer: Answer) -> Status {
        let verdict = match answer.rc {
            0 if answer.says(self.up_to_date) => Verdict::UpToDate,
            NEEDED if answer.says(self.needed) => Verdict::Needed,
            _ => Verdict::CannotTell,
        };
        let reason = (verdict == Verdict::CannotTell).then(|| {
            let reason = answer.reason();
            match answer.rc {
                0 | NEEDED => format!("{}, which is not what Magento prints", reason),
                _ => reason,
            }
        });
        Status { verdict, reason, answer: Some(answer) }
    }
}

impl Status {
    fn json(&self, question: &Question) -> Value {
        let state = match self.verdict {
            Verdict::UpToDate => "up_to_date",
            Verdict::Needed => question.needed_word,
            Verdict::CannotTell => "cannot_tell",
        };
        let mut value = self.answer.as_ref().map_or_else(|| json!({}), Answer::to_json);
        value["state"] = state.into();
        value["reason"] = self.reason.clone().into();
        value
    }

    /// As a module returns the state of the database.
    pub fn database_json(&self) -> Value {
        self.json(&DATABASE)
    }

    /// As a module returns the state of the configuration.
    pub fn configuration_json(&self) -> Value {
        self.json(&CONFIGURATION)
    }

    /// Whether something has to be done.
    pub fn is_needed(&self) -> bool {
        self.verdict == Verdict::Needed
    }
}

/// Fails unless both are known.
///
/// # Errors
/// `cannot_tell`, with both states.
pub fn require_told(
    magento: &Magento,
    database: &Status,
    configuration: &Status,
) -> Result<(), Failure> {
    let told = [(&DATABASE, database), (&CONFIGURATION, configuration)];
    let reasons: Vec<_> = told
        .iter()
        .filter_map(|(question, status)| Some((question.command, status.reason.as_ref()?)))
        .collect();
    if reasons.is_empty() {
        return Ok(());
    }
    // If both have the same reason (a database that is down), name it once.
    let same = reasons.iter().all(|(_, reason)| Some(*reason) == reasons.first().map(|r| r.1));
    let cause = if same && reasons.len() > 1 {
        format!("setup:db:status and app:config:status: {}", reasons[0].1)
    } else {
        reasons
            .iter()
            .map(|(command, reason)| format!("{command}: {reason}"))
            .collect::<Vec<_>>()
            .join("; ")
    };
    Err(Failure::new(
        "cannot_tell",
        format!(
            "cannot determine whether the shop needs an upgrade for '{}'",
            magento.path().display()
        ),
    )
    .cause(cause.trim_end_matches('.'))
    .remedy("fix that and try again")
    .state("Nothing was changed.")
    .path(magento.path())
    .value("database", database.database_json())
    .value("configuration", configuration.configuration_json()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(question: &Question, rc: i32, stdout: &str, stderr: &str) -> Verdict {
        let (stdout, stderr) = (stdout.to_owned(), stderr.to_owned());
        question.judge(Answer { rc, stdout, stderr, elapsed: Duration::ZERO }).verdict
    }

    #[test]
    fn the_measured_answers() {
        let database = |rc, text: &str| judge(&DATABASE, rc, text, "");
        assert_eq!(database(0, "All modules are up to date."), Verdict::UpToDate);
        let b = "Declarative Schema is not up to date\nData patches are not up to date\n\
                 Run 'setup:upgrade' to update your DB schema and data.";
        assert_eq!(database(2, b), Verdict::Needed);
        let d = "No information is available: the Magento application is not installed.";
        assert_eq!(database(1, d), Verdict::CannotTell);
        assert_eq!(judge(&DATABASE, 255, "", "SQLSTATE[HY000] [2002]"), Verdict::CannotTell);
        let configuration = |rc, text: &str| judge(&CONFIGURATION, rc, text, "");
        assert_eq!(configuration(0, "Config files are up to date."), Verdict::UpToDate);
        let changed = "Config files have changed. Run app:config:import or setup:upgrade command";
        assert_eq!(configuration(2, changed), Verdict::Needed);
        assert_eq!(
            configuration(1, "Command \"app:config:status\" is not defined."),
            Verdict::CannotTell
        );
    }

    #[test]
    fn a_code_without_the_words_tells_nothing() {
        assert_eq!(judge(&DATABASE, 0, "", ""), Verdict::CannotTell);
        assert_eq!(judge(&DATABASE, 2, "", "sh: syntax error"), Verdict::CannotTell);
        assert_eq!(judge(&DATABASE, 1, "All modules are up to date.", ""), Verdict::CannotTell);
        assert_eq!(judge(&DATABASE, 0, "Run 'setup:upgrade'", ""), Verdict::CannotTell);
    }
}
