//! What more than one module returns.

use oxistrano_core::ReturnSpec;

/// Where the release is.
pub const RELEASE_PATH: ReturnSpec = ReturnSpec {
    name: "release_path",
    kind: "str",
    doc: "The directory of the release.",
    returned: "success",
};

/// Its version.
pub const VERSION: ReturnSpec = ReturnSpec {
    name: "version",
    kind: "str",
    doc: "The version of the release.",
    returned: "success",
};

/// Its revision.
pub const REVISION: ReturnSpec = ReturnSpec {
    name: "revision",
    kind: "str",
    doc: "The content of the file C(REVISION).",
    returned: "success",
};

/// The earlier releases, as `files`.
pub const FILES: ReturnSpec = ReturnSpec {
    name: "files",
    kind: "list",
    doc: "The releases that existed before, the newest first, in the form that \
        M(ansible.builtin.find) returns.",
    returned: "success",
};

/// Their number, as `matched`.
pub const MATCHED: ReturnSpec = ReturnSpec {
    name: "matched",
    kind: "int",
    doc: "The number of RV(files).",
    returned: "success",
};

/// The live release.
pub const COMPARED_WITH: ReturnSpec = ReturnSpec {
    name: "compared_with",
    kind: "str",
    doc: "The live release, with which the files of this one were compared.",
    returned: "check mode with diff, if a release is live",
};

/// The differences.
pub const CHANGES: ReturnSpec = ReturnSpec {
    name: "changes",
    kind: "dict",
    doc: "How many files and links are C(added), C(changed), C(removed) and the C(same), by \
        content, and the C(first) twenty of each kind. Shared paths, owners, permissions and \
        times are not compared.",
    returned: "check mode with diff, if a release is live",
};

/// Why it is not known.
pub const CHANGES_UNKNOWN: ReturnSpec = ReturnSpec {
    name: "changes_unknown",
    kind: "str",
    doc: "Why RV(changes) is not known.",
    returned: "check mode with diff, if it is not known",
};
