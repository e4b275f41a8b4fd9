"""Measures how long things take, ours and what is used elsewhere, in turns, and prints a table for each part.

    make bench                                          all of it, about an hour
    make bench ARGS='--only unpack --rounds 3'          one part
    make bench ARGS='--scale 0.05 --rounds 1'           a trial

Interrupted, it goes on where it was with the same command. What ends up in --output: a JSON of each
run, a table and a plot for each part.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

from . import machine, report
from .artifact import Artifact
from .contest import Results, failures, hold, say
from .copying import Copy
from .deleting import Delete
from .delta import OfWhatDiffers
from .deploying import Deploy, Hosts
from .growth import Growth
from .place import Places
from .plays import CHECKOUT, Ansible
from .process import Failed, Missing
from .relay import Line
from .slow_line import SlowLine
from .spare import CopyOnSpare, OnSpare
from .transport import Task
from .unpack import Unpack

PARTS = {part.name: part for part in (Task, Unpack, OnSpare, OfWhatDiffers, CopyOnSpare, Copy, Delete, Deploy, SlowLine, Hosts, Growth)}
BUILD = CHECKOUT / ".build/bench"
DOCS = CHECKOUT / "docs"


def arguments():
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part (may be repeated)")
    usual = ", ".join(f"{part.name}={part.rounds}" for part in PARTS.values())
    parser.add_argument(
        "--rounds", action="append", default=[], metavar="[PART=]N", help=f"runs of each contestant, may be repeated (default: {usual})"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the generated release (default: 1)")
    parser.add_argument("--tree", type=Path, help="a release of your own, as a directory")
    parser.add_argument("--archive", type=Path, help="a release of your own, as .tar, .tar.gz or .tar.zst")
    parser.add_argument("--upstream", type=Path, help="a checkout of ansistrano.deploy, for the parts deploy, slow-line and hosts")
    parser.add_argument("--before", type=Path, help="a built checkout of another commit, for the parts task, deploy, slow-line and hosts")
    parser.add_argument("--deployer", type=Path, help="Deployer's program dep, for the part slow-line")
    parser.add_argument(
        "--line", type=line, default="100,20", metavar="MBIT,MS", help="rate and round trip of the slow line (default: 100,20)"
    )
    parser.add_argument("--million", action="store_true", help="the part growth with a million files too (40 GB, half an hour)")
    parser.add_argument("--disk", type=Path, default=BUILD / "disk", help="a directory on the disk that is measured")
    parser.add_argument("--budget", type=float, default=6, help="GB that may lie there at once (default: 6)")
    parser.add_argument("--tasks", type=int, default=21, help="tasks in the longer play of the part task (default: 21)")
    parser.add_argument("--hosts", type=int, action="append", help="numbers of hosts (default: 1, 5 and 20)")
    parser.add_argument("--output", type=Path, default=BUILD / "results", help="where results go, or are")
    parser.add_argument("--fresh", action="store_true", help="forget the results of the parts that are to be measured")
    parser.add_argument("--retry", action="store_true", help="run again what has failed")
    parser.add_argument("--show", action="store_true", help="measure nothing: the tables of what is in --output")
    parser.add_argument("--write-docs", action="store_true", help="put tables and plots into docs/benchmarks.md")
    options = parser.parse_args()
    options.rounds = rounds(options.rounds, parser)
    options.hosts = sorted(set(options.hosts or [1, 5, 20]))
    if not all(1 <= count <= 20 for count in options.hosts):
        parser.error("--hosts: 1 to 20")
    for name in ("upstream", "before", "deployer"):
        if path := getattr(options, name):
            setattr(options, name, path.absolute())
    return options


def line(text):
    try:
        return Line.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not two numbers like 100,20") from None


def rounds(given, parser):
    """{part: number}."""
    found = {part.name: part.rounds for part in PARTS.values()}
    for each in given:
        part, _, number = each.rpartition("=")
        if not number.isdigit() or int(number) < 1 or part not in {"", *PARTS}:
            parser.error(f"--rounds: '{each}' is neither a number nor PART=NUMBER")
        found |= dict.fromkeys([part] if part else PARTS, int(number))
    return found


class Bench:
    """What the parts share."""

    def __init__(self, options, places, ansible, artifact):
        self.options, self.places, self.ansible, self.artifact = options, places, ansible, artifact
        self.cache = BUILD / "artifacts"


def program():
    """Changes with the modules: their figures do not go together."""
    return hashlib.sha256((CHECKOUT / "plugins/modules/release_setup").read_bytes()).hexdigest()[:12]


def collection():
    """Changes with what runs on the controller as well."""
    digest = hashlib.sha256(program().encode())
    files = [*(CHECKOUT / "plugins").rglob("*.py"), *(CHECKOUT / "roles").rglob("*.yml")]
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def head(part, options, artifact):
    """What stands in the results of a part before the first run."""
    every = {
        "modules": program(),
        "collection": collection(),
        "artifact": artifact.name,
        "tasks": options.tasks,
        "hosts": options.hosts,
        "upstream": str(options.upstream or ""),
        "before": str(options.before or ""),
        "deployer": str(options.deployer or ""),
        "line": str(options.line),
        "million": options.million,
    }
    command = shlex.join(sys.argv[1:])
    return {
        "part": part.name,
        "title": part.title,
        "columns": part.columns,
        "times": part.times,
        "plot": part.plot,
        "settings": {name: every[name] for name in part.depends_on},
        "command": f"make bench{f' ARGS={shlex.quote(command)}' if command else ''}",
        "release": "",
        "machine": machine.describe(options.disk, Path(sys.executable).with_name("ansible-playbook")),
        "date": time.strftime("%Y-%m-%d"),
    }


def what_runs():
    """Files and directories that are to be in the page cache, so that nobody's start is a cold one."""
    programs = ("tar", "bsdtar", "zstd", "gzip", "rsync", "cp", "rm", "chown", "ssh", "sshd")
    # Nothing of what else is installed there is used.
    standard = [each for each in Path(os.__file__).parent.iterdir() if each.name not in ("site-packages", "test")]
    ours = [CHECKOUT / name for name in ("plugins", "roles")]
    virtual = Path(sys.prefix) / "lib"
    return [*ours, virtual, *standard, *Path("/usr/lib").glob("python3*"), *filter(None, map(shutil.which, programs))]


def measure(options, wanted):
    cache = BUILD / "artifacts"
    say("making the artifact, unless it is there")
    artifact = Artifact.of_options(options, cache)
    say(artifact.description())
    warm = [artifact.zst, artifact.gz, *what_runs()]
    ansible, problems = Ansible(), []
    try:
        with Places(options.disk, artifact.on_disk(), warm, budget=int(options.budget * 10**9)) as places:
            bench = Bench(options, places, ansible, artifact)
            for name in wanted:
                path = options.output / f"{name}.json"
                if options.fresh:
                    path.unlink(missing_ok=True)
                # What one part lacks does not keep the others from being measured.
                try:
                    results = Results(path, head(PARTS[name], options, artifact))
                    if options.retry:
                        results.forget_failures()
                    part = PARTS[name](bench)
                    results.data["release"] = part.artifact.description() if part.artifact else ""
                    try:
                        hold(part, results, options.rounds[name])
                    finally:
                        part.close()
                except (Missing, Failed) as error:
                    problems.append(f"{name}: {error}")
                    say(problems[-1])
                else:
                    say(f"{name}: {results.data['seconds']:.0f} s")
    finally:
        ansible.close()
    return problems


def main():
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in PARTS if not options.only or name in options.only]
    problems = [] if options.show else measure(options, wanted)
    told = [found for name in wanted if (found := report.read(options.output, name))]
    if not told:
        raise Missing("\n".join(problems) or f"there are no results in '{options.output}'")
    for data in told:
        report.write(options.output, data)
        print(report.text(data))
    if options.write_docs:
        report.write_docs(DOCS, options.output, told)
    failed = [failure for data in told for failure in failures(data)]
    for group, name, reason in failed:
        print(f"FAILED: {group}: {name}: {reason}", file=sys.stderr)
    for problem in problems:
        print(f"NOT MEASURED: {problem}", file=sys.stderr)
    return 1 if failed or problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as error:
        sys.exit(str(error))
    except Failed as error:
        sys.exit(f"a preparation failed: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
