//! The deployer: the process on the controller.

use oxistrano_core::json::{self, Value};
use oxistrano_core::{FromValue, Kind, Literal, OptionSpec};
use serde::{Deserialize, Serialize};

/// The process that controls a deploy: `ansible-playbook`, as the action plugin sees
/// it. Equal means the same process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deployer {
    /// The host's name in the play: one process deploys to many hosts, and two of them may share a deploy root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub inventory_hostname: String,
    /// Host name of the controller.
    pub host: String,
    /// Login name there.
    pub user: String,
    /// Process id there.
    pub pid: u64,
    /// When that process started, in the kernel's clock ticks.
    pub started: u64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The process id name space.
    pub pid_namespace: String,
    /// The queue of the deploy. Only one deploy of a queue runs at a time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub queue: String,
}

impl Deployer {
    /// For people: `alice@ci, process 4711`.
    pub fn describe(&self) -> String {
        if self.host.is_empty() {
            return "an unknown controller".to_owned();
        }
        let mut text = format!("{}@{} (process {}", self.user, self.host, self.pid);
        if !self.inventory_hostname.is_empty() {
            text.push_str(&format!(", this host as {}", self.inventory_hostname));
        }
        text + ")"
    }
}

impl FromValue for Deployer {
    const SPEC: OptionSpec = OptionSpec {
        required: false,
        default: Some(Literal::EmptyDict),
        ..OptionSpec::of(Kind::Dict)
    };
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        match value {
            Some(value) => json::from_value(value).map_err(|error| error.to_string()),
            None => Ok(Self::default()),
        }
    }
}
