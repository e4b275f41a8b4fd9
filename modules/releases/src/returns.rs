//! What more than one module returns.

use oxistrano_core::ReturnSpec;

/// The releases before, as `files`.
pub const FILES: ReturnSpec = ReturnSpec {
    name: "files",
    kind: "list",
    doc: "The releases before, the newest first, as M(ansible.builtin.find) returns directories.",
    returned: "success",
};

/// Their number, as `matched`.
pub const MATCHED: ReturnSpec =
    ReturnSpec { name: "matched", kind: "int", doc: "How many they are.", returned: "success" };
