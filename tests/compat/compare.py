#!/usr/bin/env python3
"""Compare the trees left by ansistrano.deploy/rollback and by oxistrano.deploy.

For each scenario the same sequence of plays (deploys, rollbacks) runs twice on
localhost, once with the upstream roles and once with the roles of the
collection `oxistrano.deploy`, each in its own deploy root. After every play
the two roots are compared entry by entry: path, type, permission bits, owner,
group, link target, number of hard links, size and SHA-256 of the content; and
so is the log written by the plays' hooks. See README.md in this directory.

Python standard library only; it runs ansible-playbook, and, to make its
sources, git, svn, svnadmin and hg (a scenario is skipped when its tool is
missing).
"""

import argparse
import concurrent.futures
import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hooks import DEPLOY_HOOKS, LOG_HOOK, ROLLBACK_HOOKS, log_hook, write_hooks
from known import KNOWN_DIFFERENCES
from scenarios import SCENARIOS
from sources import make_fixtures, serve, tool_env
from trees import Normaliser, compare, manifest


@dataclass
class Context:
    opts: object
    scratch: Path
    env: dict
    fx: Path
    http: str
    ids: dict


def expand(value, table):
    if isinstance(value, str):
        for key, text in table.items():
            value = value.replace(key, text)
        return value
    if isinstance(value, list):
        return [expand(v, table) for v in value]
    if isinstance(value, dict):
        return {k: expand(v, table) for k, v in value.items()}
    return value


def run_side(ctx, scenario, side):
    """Run all steps of a scenario on one side: list of {label, rc, log, tree}."""
    here = ctx.scratch / "runs" / scenario.name / side
    root = here / "app"
    here.mkdir(parents=True)
    write_hooks(here / "hooks", scenario.hooks or "new")
    hook_log = here / "hook.log"
    norm = Normaliser(here, scenario)
    table = {
        "@ROOT@": str(root),
        "@FX@": str(ctx.fx),
        "@SIDE@": str(here),
        "@HTTP@": ctx.http,
        "@HTTP_USER@": ctx.http.replace("://", "://user:pass@"),
        **ctx.ids,
    }
    if side == "upstream":
        roles = {"deploy": "ansistrano.deploy", "rollback": "ansistrano.rollback"}
    else:
        roles = {"deploy": "oxistrano.deploy.deploy", "rollback": "oxistrano.deploy.rollback"}
    env = dict(ctx.env)
    env.update(
        ANSIBLE_CONFIG=str(ctx.scratch / "ansible.cfg"),
        ANSIBLE_ROLES_PATH=str(ctx.scratch / ("roles-old" if scenario.old else "roles")),
        ANSIBLE_COLLECTIONS_PATH=str(ctx.opts.collections or ctx.scratch / "none"),
    )
    results = []
    for number, step in enumerate(scenario.steps, 1):
        if step.before:
            step.before(root)
        vars = {
            "ansistrano_deploy_to": "@ROOT@",
            "ansistrano_allow_anonymous_stats": False,
            "compat_log": str(hook_log),
            "compat_root": "@ROOT@",
            **scenario.vars,
        }
        if scenario.hooks:
            for variable in DEPLOY_HOOKS + ROLLBACK_HOOKS:
                vars[variable] = LOG_HOOK.format(variable[len("ansistrano_") : -len("_tasks_file")])
        vars.update(step.vars)
        play = {
            "name": f"{scenario.name}: {step.label(number)}",
            "hosts": "localhost",
            "gather_facts": scenario.facts,
            "vars": expand(vars, table),
            "roles": [roles[step.role]],
        }
        if scenario.hooks:
            play["post_tasks"] = log_hook("after_role" if step.role == "deploy" else "after_rollback_role", scenario.hooks)
        playbook = here / f"step-{number}.yml"
        playbook.write_text(json.dumps([play], indent=1, ensure_ascii=False))
        started = time.monotonic()
        with open(here / f"step-{number}.log", "w", encoding="utf-8") as out:
            rc = subprocess.run(
                [ctx.opts.ansible_playbook, "-i", str(ctx.scratch / "hosts"), *step.args, str(playbook)],
                cwd=here,
                env=env,
                umask=scenario.umask,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        seconds = time.monotonic() - started
        tree = manifest(root, norm, ctx.env)
        log = norm.text(hook_log.read_text()) if hook_log.exists() else ""
        results.append({"label": step.label(number), "ok": rc == 0, "seconds": seconds, "tree": tree, "log": log})
    return results


def tail(file, lines=12):
    text = file.read_text(errors="replace").splitlines() if file.exists() else []
    picked = [t for t in text if re.match(r"(fatal|failed|ERROR|\[ERROR\])", t)] or text
    return [t[:400] for t in picked[-lines:]]


def split_log(line):
    return re.split(r" +(?=[\w.]+=)", line)


def judge(ctx, scenario, up, ours):
    """(unexpected lines, known lines) for a finished scenario."""
    bad, known = [], []

    def report(step, path, text):
        for rule in KNOWN_DIFFERENCES:
            if (
                fnmatch.fnmatchcase(scenario.name, rule.scenario)
                and fnmatch.fnmatchcase(step, rule.step)
                and fnmatch.fnmatchcase(path, rule.path)
            ):
                known.append(f"{step}: {path}: {text} [{rule.reason}]")
                return False
        bad.append(f"{step}: {path}: {text}")
        return True

    runs = ctx.scratch / "runs" / scenario.name
    seen = set()
    for number, (step, a, b) in enumerate(zip(scenario.steps, up, ours), 1):
        label = a["label"]
        word = {True: "succeeded", False: "failed"}
        if a["ok"] == step.fail:
            bad.append(f"{label}: upstream {word[a['ok']]}, the scenario expects otherwise")
            bad += ["    " + t for t in tail(runs / "upstream" / f"step-{number}.log")]
        if a["ok"] != b["ok"] and report(label, "(result)", f"upstream {word[a['ok']]}, ours {word[b['ok']]}"):
            side = "upstream" if b["ok"] else "ours"
            bad += ["    " + t for t in tail(runs / side / f"step-{number}.log")]
        for path, text in compare(a["tree"], b["tree"], ctx.opts.mtimes):
            if (path, text) not in seen:  # say it for the first step that shows it
                seen.add((path, text))
                report(label, path, text)
        la, lb = a["log"].splitlines(), b["log"].splitlines()
        for i in range(max(len(la), len(lb))):
            x = la[i] if i < len(la) else "(nothing)"
            y = lb[i] if i < len(lb) else "(nothing)"
            if x != y and ("log", i) not in seen:
                seen.add(("log", i))
                # Only the facts that differ, behind the hook's name.
                ax, by = split_log(x), split_log(y)
                if len(ax) == len(by):
                    differ = [k for k in range(len(ax)) if k == 0 or ax[k] != by[k]]
                    x, y = (" ".join(t[k] for k in differ) for t in (ax, by))
                report(label, "(hook log)", f"line {i + 1}\n           upstream {x}\n           ours     {y}")
    return bad, known


def source_key(*folders):
    """Digest of the scripts that upstream's results depend on and of its roles: a baseline's validity."""
    here = Path(__file__).parent
    names = ("compare.py", "hooks.py", "scenarios.py", "sources.py", "steps.py", "trees.py")
    digest = hashlib.sha256(b"".join((here / name).read_bytes() for name in names))
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.yml")) if folder else ():
            if ".git" not in path.parts:
                digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def run_scenario(ctx, scenario, baseline):
    lines = []
    up = baseline.get(scenario.name)
    if up is None:
        up = run_side(ctx, scenario, "upstream")
        baseline[scenario.name] = up
    if ctx.opts.upstream_only:
        ours = up
    else:
        ours = run_side(ctx, scenario, "ours")
    bad, known = judge(ctx, scenario, up, ours)
    took = "upstream {:.0f} s, ours {:.0f} s".format(sum(r["seconds"] for r in up), sum(r["seconds"] for r in ours))
    lines.append(f"{'FAIL' if bad else 'ok  '} {scenario.name}: {scenario.about} ({took})")
    lines += [f"     {t}" for t in bad[: ctx.opts.max_lines]]
    if len(bad) > ctx.opts.max_lines:
        lines.append(f"     ... and {len(bad) - ctx.opts.max_lines} more")
    if known:
        lines.append(f"     {len(known)} known difference(s)" + (":" if ctx.opts.verbose else ""))
        if ctx.opts.verbose:
            lines += [f"       {t}" for t in known]
    return not bad, lines


def parse():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--upstream-deploy", type=Path, help="checkout of ansistrano.deploy")
    p.add_argument("--upstream-rollback", type=Path, help="checkout of ansistrano.rollback")
    p.add_argument("--upstream-deploy-old", type=Path, help="checkout of ansistrano.deploy from before March 2026 (scenarios *-old)")
    p.add_argument("--collections", type=Path, help="directory that has ansible_collections/oxistrano/deploy")
    p.add_argument("--scenario", action="append", default=[], metavar="PATTERN", help="only these (shell patterns; may be repeated)")
    p.add_argument("--ansible-playbook", default="ansible-playbook")
    p.add_argument("--jobs", type=int, default=1, help="scenarios run at a time")
    p.add_argument("--mtimes", action="store_true", help="also compare mtimes (kept from the source, or of the run)")
    p.add_argument("--baseline", type=Path, help="JSON file with upstream's results: reused when valid, else written")
    p.add_argument("--upstream-only", action="store_true", help="run upstream only: checks the scenarios, fills the baseline")
    p.add_argument("--max-lines", type=int, default=40, help="differences printed per scenario")
    p.add_argument("--keep", action="store_true", help="keep the scratch directory")
    p.add_argument("--verbose", action="store_true", help="print known differences too")
    p.add_argument("--list", action="store_true", help="list the scenarios and exit")
    opts = p.parse_args()
    if not opts.list:
        missing = [n for n in ("upstream_deploy", "upstream_rollback") if not getattr(opts, n)]
        if not opts.upstream_only and not opts.collections:
            missing.append("collections")
        if missing:
            p.error("needed: " + ", ".join("--" + m.replace("_", "-") for m in missing))
        for name in ("upstream_deploy", "upstream_rollback", "upstream_deploy_old", "collections"):
            path = getattr(opts, name)
            if path:
                inner = "ansible_collections/oxistrano/deploy" if name == "collections" else "tasks/main.yml"
                if not (path / inner).exists():
                    p.error(f"--{name.replace('_', '-')}: no {inner} in {path}")
                setattr(opts, name, path.resolve())
        found = shutil.which(opts.ansible_playbook)
        if not found:
            p.error(f"--ansible-playbook: {opts.ansible_playbook} not found")
        opts.ansible_playbook = os.path.abspath(found)
    return opts


def main():
    opts = parse()
    chosen = [s for s in SCENARIOS if not opts.scenario or any(fnmatch.fnmatchcase(s.name, p) for p in opts.scenario)]
    if opts.list:
        for s in chosen:
            print(f"{s.name:26} {s.about}")
        return 0
    if not chosen:
        sys.exit("no such scenario (see --list)")
    os.umask(0o022)
    scratch = Path(tempfile.mkdtemp(prefix="oxistrano-compat-")).resolve()
    env = tool_env(scratch)
    wanted = {n for s in chosen for n in s.needs if shutil.which(n)}
    if "svn" in wanted and not shutil.which("svnadmin"):
        wanted.discard("svn")
    fx, ids = make_fixtures(scratch, env, wanted)
    server = serve(fx / "archives")
    (scratch / "hosts").write_text('localhost ansible_connection=local ansible_python_interpreter="{{ ansible_playbook_python }}"\n')
    (scratch / "ansible.cfg").write_text(
        "[defaults]\nnocows = true\nretry_files_enabled = false\nforce_color = false\n[connection]\npipelining = true\n"
    )
    for folder, role in (("roles", opts.upstream_deploy), ("roles-old", opts.upstream_deploy_old)):
        (scratch / folder).mkdir()
        if role:
            (scratch / folder / "ansistrano.deploy").symlink_to(role)
            (scratch / folder / "ansistrano.rollback").symlink_to(opts.upstream_rollback)
    ctx = Context(opts, scratch, env, fx, f"http://127.0.0.1:{server.server_port}", ids)

    baseline = {}
    key = source_key(opts.upstream_deploy, opts.upstream_rollback, opts.upstream_deploy_old)
    if opts.baseline and opts.baseline.exists():
        stored = json.loads(opts.baseline.read_text())
        if stored.get("key") == key and stored.get("uid") == os.geteuid():
            baseline = stored["scenarios"]

    def one(s):
        reason = None
        absent = [n for n in s.needs if not shutil.which(n)]
        if absent:
            reason = f"no {', '.join(absent)}"
        elif s.root_only and os.geteuid():
            reason = "needs root"
        elif s.old and not opts.upstream_deploy_old:
            reason = "needs --upstream-deploy-old"
        if reason:
            return None, [f"skip {s.name}: {reason}"]
        return run_scenario(ctx, s, baseline)

    counts = {True: 0, False: 0, None: 0}
    try:
        with concurrent.futures.ThreadPoolExecutor(max(1, opts.jobs)) as pool:
            for verdict, lines in pool.map(one, chosen):
                counts[verdict] += 1
                print("\n".join(lines), flush=True)
    finally:
        server.shutdown()
        if opts.baseline:
            opts.baseline.write_text(json.dumps({"key": key, "uid": os.geteuid(), "scenarios": baseline}))
        if opts.keep:
            print(f"kept: {scratch}/runs/<scenario>/<upstream|ours>/")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    skipped = f", {counts[None]} skipped" if counts[None] else ""
    print(f"{counts[True]} passed, {counts[False]} failed{skipped}")
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(main())
