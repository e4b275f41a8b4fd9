//! What Magento 2.4.7-p3 answers in each state, measured.

#![allow(dead_code, reason = "each test program uses a part of it")]

use oxistrano_harness::{exception, fails};

/// An answer: the script that gives it, the state that it means, and what the failure says
/// of it if nothing can be told by it.
pub struct Measured {
    pub script: String,
    pub state: &'static str,
    pub reason: &'static str,
}

fn told(state: &'static str, script: &str) -> Measured {
    Measured { script: script.to_owned(), state, reason: "" }
}

fn not_told(script: String, reason: &'static str) -> Measured {
    Measured { script, state: "cannot_tell", reason }
}

fn refused() -> String {
    let message = "SQLSTATE[HY000] [2002] Connection refused";
    let first = exception(Some("AbstractAdapter.php line 144"), message);
    let second = exception(Some("AbstractPdo.php line 128"), message);
    fails(255, &format!("{first}{second}setup:db:status\n"))
}

/// Of `setup:db:status`: up to date, newer code, newer code after the schema part, database
/// down, password wrong, not installed.
pub fn database() -> Vec<Measured> {
    let denied =
        "SQLSTATE[HY000] [1045] Access denied for user 'shop'@'localhost' (using password: YES)";
    vec![
        told("up_to_date", "echo 'All modules are up to date.'"),
        told(
            "upgrade_needed",
            "echo 'Declarative Schema is not up to date'\n\
             echo 'Data patches are not up to date'\n\
             echo \"Run 'setup:upgrade' to update your DB schema and data.\"; exit 2",
        ),
        told(
            "upgrade_needed",
            "echo 'Data patches are not up to date'\n\
             echo \"Run 'setup:upgrade' to update your DB schema and data.\"; exit 2",
        ),
        not_told(refused(), "exit code 255: SQLSTATE[HY000] [2002] Connection refused"),
        not_told(
            fails(255, &exception(Some("AbstractPdo.php line 128"), denied)),
            "exit code 255: SQLSTATE[HY000] [1045] Access denied for user 'shop'@'localhost' \
             (using password: YES)",
        ),
        not_told(
            "echo 'No information is available: the Magento application is not installed.'; exit 1"
                .to_owned(),
            "exit code 1: No information is available: the Magento application is not installed",
        ),
    ]
}

/// Of `app:config:status`: up to date, to be imported, database down, not installed.
pub fn configuration() -> Vec<Measured> {
    let undefined = "Command \"app:config:status\" is not defined.";
    vec![
        told("up_to_date", "echo 'Config files are up to date.'"),
        told(
            "import_needed",
            "echo 'Config files have changed. Run app:config:import or setup:upgrade command to \
             synchronize configuration.'; exit 2",
        ),
        not_told(refused(), "exit code 255: SQLSTATE[HY000] [2002] Connection refused"),
        not_told(
            fails(1, &exception(None, undefined)),
            "exit code 1: Command \"app:config:status\" is not defined",
        ),
    ]
}
