#!/usr/bin/env python3
"""Plants each fault of faults.toml into a copy of the checkout, and runs the test that must notice it.

    make faults                             all that a test of a crate or a playbook notices
    make faults ARGS='--molecule'           those that only a scenario notices, as well
    make faults ARGS='--only opcache'       those whose text has that in it
    make faults ARGS=--list                 says only what there is; checks that each can still be planted

The copy is below .build/faults: what the checkout has, committed or not. A test is run without the fault first: it
counts only if it passes then. A fault that does not compile is none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE = ROOT / ".build/faults"
COPY = PLACE / "checkout"


def without_nextest():
    return subprocess.run(["cargo", "nextest", "--version"], capture_output=True).returncode != 0


def faults():
    return tomllib.loads((Path(__file__).parent / "faults.toml").read_text())["fault"]


def planted(fault, top):
    """The text of the file with the fault in it."""
    text = (top / fault["file"]).read_text()
    for old, new in fault["edits"]:
        if text.count(old) != 1:
            sys.exit(f"'{fault['what']}' cannot be planted: {fault['file']} has {text.count(old)} times\n{old}")
        text = text.replace(old, new)
    return text


def make_copy():
    COPY.mkdir(parents=True, exist_ok=True)
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    wanted = {name for name in names if name and os.path.lexists(ROOT / name)}
    for name in wanted:
        source, target = ROOT / name, COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.unlink(missing_ok=True)
            target.symlink_to(os.readlink(source))
        # Only what differs, or Cargo would compile everything again.
        elif not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copy(source, target)
    for path in [path for part in ("modules", "tests", "roles", "plugins") for path in (COPY / part).rglob("*")]:
        if path.is_file() and str(path.relative_to(COPY)) not in wanted and "plugins/" not in str(path):
            path.unlink()


def run(command, log, **environment):
    with open(log, "ab") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n".encode())
        file.flush()
        return subprocess.run(
            command,
            cwd=COPY,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "CARGO_TARGET_DIR": str(PLACE / "target"), **environment},
        ).returncode


class Test:
    """What must notice a fault."""

    def __init__(self, noticed):
        self.noticed = noticed
        self.kind = next(kind for kind in ("rust", "playbook", "molecule") if kind in noticed)
        self.name = " ".join(str(noticed[key]) for key in (self.kind, "test") if key in noticed)

    def build(self, log):
        """Whether there is something to run; for a fault in Rust, with the fault in it."""
        if self.kind == "rust":
            return run(["cargo", "build", "--locked", "--quiet", "-p", "oxistrano"], log) == 0
        return run(["cargo", "xtask", "build"], log) == 0 and run(["scripts/collections"], log) == 0

    def red(self, log):
        """Whether it fails; None if it could not be run."""
        if self.kind == "rust":
            code = run(["scripts/test-rust", "-p", self.noticed["rust"], "-E", f"test({self.noticed['test']})"], log)
            return {0: False, 100: True}.get(code)
        if self.kind == "molecule":
            return run(["scripts/molecule", "test", "-s", self.noticed["molecule"]], log) != 0
        version = max(
            (path.stem.removeprefix("test-") for path in (ROOT / "tests/requirements").glob("test-*.txt")),
            key=lambda text: [int(part) for part in text.split(".")],
        )
        # It makes what is not there, the Python that this ansible-core needs as well.
        if run([ROOT / "scripts/playbooks", "newest", "--", "--version"], log):
            return None
        venv = ROOT / ".build" / f"test-{version}"
        code = run(
            [
                venv / "bin/python",
                "-m",
                "pytest",
                "-q",
                "-x",
                # CI has no more.
                "--first",
                f"tests/playbooks/{self.noticed['playbook']}",
                "-k",
                self.noticed["test"],
                f"--ansible={venv}/bin/ansible-playbook",
            ],
            log,
            PYTHONDONTWRITEBYTECODE="1",
        )
        return {0: False, 1: True}.get(code)


def verdict_of(fault, test, log, sound):
    """In words, and whether it is as it must be."""
    if test.name not in sound:
        sound[test.name] = test.build(log) and test.red(log) is False
    if not sound[test.name]:
        return "the test fails without it", False
    path = COPY / fault["file"]
    before = path.read_text()
    path.write_text(planted(fault, COPY))
    try:
        if not test.build(log):
            return "does not compile", False
        red = test.red(log)
    finally:
        path.write_text(before)
    return {True: ("noticed", True), False: ("NOT NOTICED", False), None: ("the test cannot be run", False)}[red]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--molecule", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--kind", choices=("rust", "playbook", "molecule"))
    options = parser.parse_args()
    chosen = [(fault, Test(fault["noticed"])) for fault in faults() if options.only in fault["what"]]
    if options.kind:
        chosen = [(fault, test) for fault, test in chosen if test.kind == options.kind]
    for fault, _ in chosen:
        planted(fault, ROOT)
    if options.list:
        for fault, test in chosen:
            print(f"| {fault['what']} | {test.name} |")
        return 0
    if without_nextest() and any(test.kind == "rust" for _, test in chosen):
        sys.exit("make faults: a test of a crate is chosen by cargo-nextest, which is not here (cargo install cargo-nextest)")
    make_copy()
    sound, passed, failed, left = {}, 0, 0, 0
    for fault, test in chosen:
        if test.kind == "molecule" and not (options.molecule or options.kind == "molecule"):
            left += 1
            continue
        log, started = PLACE / "log", time.monotonic()
        log.unlink(missing_ok=True)
        told, good = verdict_of(fault, test, log, sound)
        passed, failed = passed + good, failed + (not good)
        print(f"| {fault['what']} | {test.name} | {told} | {time.monotonic() - started:.0f} s |", flush=True)
        if not good:
            print(log.read_text(errors="replace")[-3000:], file=sys.stderr, flush=True)
    print(f"\n{passed} passed, {failed} failed" + (f", {left} skipped" if left else ""))
    if left:
        print("(skipped: only a scenario notices them, and that takes minutes: --molecule)")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
