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

/// The release that was compared with.
pub const COMPARED_WITH: ReturnSpec = ReturnSpec {
    name: "compared_with",
    kind: "str",
    doc: "The release that is live, with which the files of this one were compared.",
    returned: "check mode with diff, if a release is live",
};

/// What is different.
pub const CHANGES: ReturnSpec = ReturnSpec {
    name: "changes",
    kind: "dict",
    doc: "How many files and links, by contents, are C(added), C(changed), C(removed) and the C(same), and the C(first) \
          twenty of each kind. Shared paths, owners, permissions and times are not compared.",
    returned: "check mode with diff, if a release is live",
};

/// Why it cannot be told.
pub const CHANGES_UNKNOWN: ReturnSpec = ReturnSpec {
    name: "changes_unknown",
    kind: "str",
    doc: "Why RV(changes) cannot be told.",
    returned: "check mode with diff, if it cannot be told",
};
