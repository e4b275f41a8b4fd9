"""Deliberate differences: the only place where they are listed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """`scenario`, `step` and `path` are shell patterns (`*` also matches `/`). `step` is the step's label as
    printed, "2 deploy"; `path` is relative to the deploy root, or "(result)" for success or failure and
    "(hook log)" for the hook log."""

    scenario: str
    step: str
    path: str
    reason: str


KNOWN_DIFFERENCES = [
    Known("*", "*", ".oxistrano", "our state directory; upstream keeps no state"),
    Known("*", "*", ".oxistrano/*", "our state directory; upstream keeps no state"),
    Known("shared-no-parent", "2 deploy", "*", "a shared path gets its link even if its parent is not in the release"),
    Known("shared-file-missing", "2 deploy", "*", "a link to a shared file that is not there yet is made, with a warning"),
    Known("shared-not-ensured", "2 deploy", "*", "a link to a shared path that is not there yet is made, with a warning"),
    Known("shared-lists", "1 deploy", "*", "nested lists of shared paths are flattened everywhere"),
    Known("keep-touched", "3 deploy", "releases/*", "releases are ordered by their deploys, not by mtime"),
    Known("rollback-touched", "4 rollback", "*", "releases are ordered by their deploys, not by mtime"),
    Known("rollback-keep", "5 rollback", "current", "a rollback never goes to a release that was rolled back from"),
    Known("current-rsync", "4 rollback", "*", "a current that is a copy can be rolled back"),
    Known("dirs-nested", "4 deploy", "*", "version_dir and current_dir may be nested"),
    Known("dirs-nested", "5 deploy", "*", "version_dir and current_dir may be nested"),
    Known(
        "same-version", "*", "releases/*", "a release that is deployed again is made anew, not written over; no .shared-copy lands in it"
    ),
    Known(
        "unarchive-exclude",
        "2 deploy",
        "releases/*/web/media",
        "patterns mean the same for zip as for tar: web/media/* leaves web/media itself",
    ),
    Known("check-mode", "2 deploy", "(result)", "check mode works"),
]
