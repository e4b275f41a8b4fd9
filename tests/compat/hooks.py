"""Hook files that log what they see, and some that do something."""

import json

LOG_HOOK = "@SIDE@/hooks/{}.yml"
DEPLOY_HOOKS = [
    f"ansistrano_{when}_{what}_tasks_file"
    for what in ("setup", "update_code", "symlink_shared", "symlink", "cleanup")
    for when in ("before", "after")
]
ROLLBACK_HOOKS = [
    f"ansistrano_rollback_{when}_{what}_tasks_file" for what in ("setup", "symlink", "cleanup") for when in ("before", "after")
]
LOGGED = [
    "ansistrano_release_path",
    "ansistrano_releases_path",
    "ansistrano_shared_path",
    "ansistrano_release_version",
    "ansistrano_current_release_version",
    "ansistrano_previous_release_version",
    "ansistrano_rollback_release_version",
]
LOGGED_RESULTS = {
    "git.before": "(ansistrano_git_result | default({})).before",
    "git.after": "(ansistrano_git_result | default({})).after",
    "git.changed": "(ansistrano_git_result | default({})).changed",
    "download.dest": "(ansistrano_download_result | default({})).dest",
    "archived_file": "ansistrano_archived_file",
}


# Also what the tree is at that moment: where current points, which releases
# there are, how many links and entries (the hidden staging directory does not count: it
# is there between setup and update-code, docs/differences.md says so; nor does the spare).
LOG_COMMAND = """\
cd {{ compat_root | quote }} 2>/dev/null && set -- \
  "$(readlink current)" "$(ls releases 2>/dev/null | tr '\\n' ' ')" \
  "$(find releases shared -name '.oxistrano-spare' -prune -o -type l -print 2>/dev/null | wc -l)" \
  "$(find releases shared -name '.oxistrano-spare' -prune -o ! -name '.oxistrano-staging' -print 2>/dev/null | wc -l)"
printf '%s current=%s releases=%s links=%s entries=%s\\n' {{ compat_line | quote }} "$@" \
  >> {{ compat_log | quote }}
"""


def log_hook(name, generation):
    parts = [f"{name}:"]
    for var in LOGGED:
        expression = var
        if generation == "old" and var == "ansistrano_release_path" and "rollback" not in name:
            expression = f"({var} | default({{}})).stdout"
        parts.append(f"{var}={{{{ {expression} | default('-') }}}}")
    for label, expression in LOGGED_RESULTS.items():
        parts.append(f"{label}={{{{ {expression} | default('-', true) }}}}")
    return [
        {
            "name": f"Log at {name}",
            "ansible.builtin.shell": LOG_COMMAND,
            "changed_when": False,
            "check_mode": False,
            "vars": {"compat_line": " ".join(parts)},
        }
    ]


def build_hook(expression):
    return [
        {"name": "Make folders", "ansible.builtin.file": {"path": f"{{{{ {expression} }}}}/build", "state": "directory", "mode": "0751"}},
        {
            "name": "Build",
            "ansible.builtin.shell": "umask 077; cat index.html > build/out.html",
            "args": {"chdir": f"{{{{ {expression} }}}}"},
            "register": "built",
        },
        {"name": "Note the result", "ansible.builtin.copy": {"dest": f"{{{{ {expression} }}}}/build/rc", "content": "{{ built.rc }}"}},
    ]


def write_hooks(folder, generation):
    folder.mkdir(parents=True)
    for variable in DEPLOY_HOOKS + ROLLBACK_HOOKS:
        name = variable[len("ansistrano_") : -len("_tasks_file")]
        (folder / f"{name}.yml").write_text(json.dumps(log_hook(name, generation)))
    (folder / "fail.yml").write_text(json.dumps([{"name": "Fail on purpose", "ansible.builtin.fail": {"msg": "on purpose"}}]))
    (folder / "build.yml").write_text(json.dumps(build_hook("ansistrano_release_path")))
    (folder / "build-old.yml").write_text(json.dumps(build_hook("ansistrano_release_path.stdout")))
