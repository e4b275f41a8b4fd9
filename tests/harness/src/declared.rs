//! What the documentation of a module promises, compared with what it has said.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::Reply;

/// Keys that every module may return, and that Ansible knows.
const COMMON: [&str; 5] = ["changed", "failed", "invocation", "warnings", "diff"];

impl Reply {
    /// A call with `--diff` that went well has a diff where the module says that it shows what
    /// changes, none where it says that it does not, and no key that is not documented.
    #[track_caller]
    #[must_use]
    pub fn kept_to_documentation(self, module: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/modules");
        let Ok(text) = fs::read_to_string(path.join(format!("{module}.py"))) else {
            return self; // A probe of the tests.
        };
        if self["failed"] == true {
            return self;
        }
        let part = |from: &str, to: &str| {
            let rest =
                text.split_once(from).unwrap_or_else(|| panic!("no {from} in {module}.py")).1;
            rest.split_once(to).expect("its end").0.to_owned()
        };
        let shows = match part("diff_mode:", "platform:")
            .split_once("support: ")
            .expect("support")
            .1
            .trim()
        {
            "full" => Some(true),
            "none" => Some(false),
            _ => None,
        };
        if let Some(shows) = shows.filter(|shows| !shows || self["changed"] == true) {
            assert_eq!(
                !self["diff"].is_null(),
                shows,
                "{module}: diff_mode is not as declared: {self}"
            );
        }
        let returned = part("RETURN = r\"\"\"", "\"\"\"");
        let key =
            |line: &str| line.strip_suffix(':').filter(|key| !key.contains(' ')).map(str::to_owned);
        let documented: BTreeSet<String> = returned.lines().filter_map(key).collect();
        for key in self.value().as_object().expect("an object").keys() {
            let known = documented.contains(key) || COMMON.contains(&key.as_str());
            assert!(known, "{module} returns {key}, which is not documented: {self}");
        }
        self
    }
}
