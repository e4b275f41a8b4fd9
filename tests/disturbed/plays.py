#!/usr/bin/env python3
"""Whole plays disturbed: playbooks/deploy.yml with the shipped program on this machine, where one system call of
one task, chosen by a seed, is killed or fails; then a good deploy.

    tests/disturbed/plays.py --ansible .build/test-2.22/bin/ansible-playbook --seeds 20
    tests/disturbed/plays.py --ansible … --on xfs --seeds 1 --first 1234      # the like again

What a seed means depends on the system calls of the undisturbed play, which are not the same each time; so each
line names the operation on the host, the fault, the call and its number in its thread ("+": from there on).

What Ansible takes for the shell of the host is a wrapper that runs the chosen task below `strace -f` with its
injection; so what brings the program to the host is disturbed as well. Needs root, strace, mkfs of the file systems
(one that is not there is named as not checked, and fails with --all)."""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(CHECKOUT / "tests/playbooks"))

from ansible_run import DEPLOY, Ansible, Project  # noqa: E402

FILE_SYSTEMS = ("tmpfs", "ext4", "xfs", "btrfs", "overlayfs")
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}

NAMES = "openat mkdirat renameat renameat2 linkat symlinkat unlinkat"
WRITES = "write pwrite64 ftruncate copy_file_range"
SYNCS = "fsync fdatasync syncfs"
METADATA = "fchmod fchmodat fchown fchownat utimensat"
READS = "read pread64 getdents64 readlinkat newfstatat statx openat2 flock"
# "play": the task's program, and then all of ansible-playbook.
FAULTS = {
    "KILL": f"{NAMES} {WRITES} {SYNCS} {METADATA} flock clone3 execve exit_group",
    "play": f"{NAMES} {WRITES} {SYNCS} {METADATA} flock clone3 execve exit_group",
    "ENOSPC": f"{NAMES} {WRITES} {SYNCS}",
    "EIO": f"{NAMES} {WRITES} {SYNCS} {METADATA} {READS}",
    "EROFS": f"{NAMES} {METADATA} ftruncate",
}

WRAPPER = """#!/bin/sh
# One for each operation on the host; Ansible nests two.
[ -z "$DISTURBED" ] || exec /bin/sh "$@"
export DISTURBED=1
read -r count <{d}/count; count=$((count + 1)); echo $count >{d}/count
read -r number inject play <{d}/order
case $number in
    record) exec strace -f -qq -s 80 -o {d}/trace.$count /bin/sh "$@" ;;
    $count) ;;
    *) exec /bin/sh "$@" ;;
esac
: >{d}/met
strace -f -qq -o {d}/disturbed -e "trace=${{inject%%:*}}" -e "inject=$inject" /bin/sh "$@"
code=$?
[ "$play" != play ] || {{ read -r pid <{d}/pid; kill -9 $pid $PPID; }}
exit $code
"""


class NotHere(Exception):
    """What is missing on this machine."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


class Place:
    """A directory on a file system of its own; what is put back before each run is kept beside it."""

    def __init__(self, kind, top):
        self.kind, self.at, self.device = kind, top / "mounted", None
        self.kept, self.lower, self.upper = top / "kept", top / "lower", top / "upper"
        for directory in (self.at, self.lower, self.upper):
            directory.mkdir(parents=True)
        if kind in MKFS:
            if not shutil.which(MKFS[kind][0]):
                raise NotHere(f"no {MKFS[kind][0]}")
            image = top / "disk"
            with image.open("wb") as file:
                file.truncate(400 << 20)
            run(*MKFS[kind], str(image))
            self.device = run("losetup", "-f", "--show", str(image))
        self.mount()

    def mount(self):
        if self.kind == "tmpfs":
            run("mount", "-t", "tmpfs", "disturbed", str(self.at))
        elif self.kind == "overlayfs":
            for name in ("data", "work"):
                (self.upper / name).mkdir(exist_ok=True)
            options = f"lowerdir={self.lower},upperdir={self.upper}/data,workdir={self.upper}/work"
            run("mount", "-t", "overlay", "-o", options, "disturbed", str(self.at))
        else:
            run("mount", self.device, str(self.at))

    def unmount(self):
        for _ in range(100):
            # What removes old releases may still be at work.
            if subprocess.run(["umount", self.at], capture_output=True).returncode == 0:
                return
            time.sleep(0.05)
        run("umount", "-l", str(self.at))

    def keep(self):
        subprocess.run(["cp", "-a", self.at / "root", self.kept], check=True)
        if self.kind == "overlayfs":
            # Releases in a lower layer, as in an image of a container.
            self.unmount()
            subprocess.run(["cp", "-a", self.kept, self.lower / "root"], check=True)
            self.mount()

    def put_back(self, empty):
        if self.kind == "overlayfs" and not empty:
            self.unmount()
            shutil.rmtree(self.upper)
            self.upper.mkdir()
            self.mount()
            return
        shutil.rmtree(self.at / "root", ignore_errors=True)
        if not empty:
            subprocess.run(["cp", "-a", self.kept, self.at / "root"], check=True)

    def close(self):
        self.unmount()
        if self.device:
            run("losetup", "-d", self.device)


def tree(path):
    """What is in a release: modes, owners, contents, where links lead to."""
    found = {}
    for entry in sorted(Path(path).rglob("*")):
        status = entry.lstat()
        content = os.readlink(entry) if entry.is_symlink() else entry.read_bytes() if entry.is_file() else None
        found[str(entry.relative_to(path))] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


def points(directory):
    """(operation on the host, system call, its number in its thread), for those that strace has written down."""
    found = []
    for file in sorted(directory.glob("trace.*"), key=lambda path: int(path.suffix[1:])):
        seen = defaultdict(Counter)
        for line in file.read_text(errors="replace").splitlines():
            match = re.match(r"(\d+) +(\w+)\(", line)
            if match:
                thread, call = match.groups()
                seen[thread][call] += 1
                found.append((int(file.suffix[1:]), call, seen[thread][call]))
    return sorted(set(found))


class Plays:
    def __init__(self, ansible, place, top):
        self.place, self.directory = place, top
        collections = top / "collections/ansible_collections/oxistrano"
        collections.mkdir(parents=True)
        (collections / "deploy").symlink_to(CHECKOUT)
        root = str(place.at / "root")
        self.project = Project(
            ansible,
            top / "project",
            top / "collections",
            {"web": {"ansistrano_deploy_to": root}},
            ansistrano_keep_releases=2,
            ansistrano_shared_paths=["var"],
            ansistrano_shared_files=["app/etc/env.php"],
        )
        self.project.root.path = place.at / "root"
        self.root = self.project.root
        wrapper = top / "wrapper"
        wrapper.write_text(WRAPPER.format(d=top))
        wrapper.chmod(0o755)
        self.project.environment["ANSIBLE_EXECUTABLE"] = str(wrapper)
        self.whole = {}

    def artifact(self, version):
        path = self.directory / f"{version}.tar.gz"
        if not path.exists():
            source = self.directory / f"source-{version}"
            for number in range(30):
                file = source / f"src/{number % 5}/{number}.php"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"<?php // {version} {number}\n" * 200)
            (source / "latest").symlink_to("src/0/0.php")
            subprocess.run(["tar", "-C", source, "-czf", path, "."], check=True)
        return path

    def deploy(self, version, order="none"):
        for name, text in (("count", "0"), ("order", order)):
            (self.directory / name).write_text(f"{text}\n")
        (self.directory / "met").unlink(missing_ok=True)
        running = self.project.start(DEPLOY, artifact=str(self.artifact(version)), ansistrano_release_version=version)
        (self.directory / "pid").write_text(f"{running.process.pid}\n")
        return running.result()

    def prepare(self):
        for version in ("v1", "v2"):
            self.good(version)
        self.place.keep()
        self.points = {}
        for first in (False, True):
            self.place.put_back(first)
            # A host that has no program yet.
            if first:
                shutil.rmtree(self.project.directory / "home/.ansible", ignore_errors=True)
            for file in self.directory.glob("trace.*"):
                file.unlink()
            self.good("v3", "record")
            self.points[first] = points(self.directory)
            self.calls = int((self.directory / "count").read_text())
        self.good("v4")
        self.state = sorted(os.listdir(self.root.state))

    def good(self, version, order="none"):
        self.deploy(version, order).good()
        self.whole[version] = tree(self.root / "releases" / version)

    def disturbed(self, seed):
        """One of them. Returns what it was, and what does not hold."""
        choose = random.Random(f"{self.place.kind} {seed}")
        first = choose.random() < 0.25
        fault = choose.choice(sorted(FAULTS))
        # First the operation and the call: else most of them would be the calls that are made most often.
        left = [point for point in self.points[first] if point[1] in FAULTS[fault].split()]
        for part in (0, 1):
            chosen = choose.choice(sorted({point[part] for point in left}))
            left = [point for point in left if point[part] == chosen]
        number, call, count = choose.choice(left)
        ever = "+" if fault.startswith("E") and choose.random() < 0.5 else ""
        what = "signal=KILL" if fault in ("KILL", "play") else f"error={fault}"
        self.place.put_back(first)
        if first:
            shutil.rmtree(self.project.directory / "home/.ansible", ignore_errors=True)
        before = self.root.live() if self.root.path.exists() else None
        result = self.deploy("v3", f"{number} {call}:{what}:when={count}{ever} {fault}")
        met = (self.directory / "met").exists()
        name = f"{'first deploy, ' if first else ''}operation {number}: {fault} at {call} {count}{ever}"
        wrong = list(self.violations(result, before, fault, met))
        try:
            self.deploy("v4").good()
            wrong += self.rest(before)
        except AssertionError as error:
            wrong.append(f"the good deploy fails: {str(error)[-1500:]}")
        if wrong:
            wrong.append(f"the disturbed play said: {result.output[-3000:]}")
        return name, result.code, met, wrong

    def violations(self, result, before, fault, met):
        live = self.root.live()
        self.was_live = live
        if live not in (before, "v3"):
            yield f"live is {live}, before it was {before}"
        elif live and tree(self.root / "releases" / live) != self.whole[live]:
            yield f"live is {live}, which is not whole"
        if fault == "play" and met:
            return
        if result.code == 0:
            if live != "v3" or not re.search(rf'"\S+: (\S+ → )?{live}["( ]', result.text):
                yield "it says that all is well, and v3 is not live, or not said to be"
            return
        if "Traceback" in result.output:
            yield "a traceback"
        messages = re.findall(r'(?:"msg": ?"|\[ERROR\]: |msg: )(.*)', result.output)
        if not messages:
            yield "no message at its end"
        last = " ".join(messages)
        for version in ("v1", "v2", "v3"):
            if re.search(rf"(?<![\w.]){version} is live", last) and version != live:
                yield f"it says that {version} is live, and {live} is"

    def rest(self, before):
        """What the good deploy has left that should not be there."""
        deadline = time.monotonic() + 10
        while self.root.leftovers() and time.monotonic() < deadline:
            time.sleep(0.05)
        expected = sorted({"v4", self.was_live} - {None})
        for what, is_there, wanted in (
            ("live", self.root.live(), "v4"),
            ("releases", self.root.releases(), expected),
            ("leftovers", self.root.leftovers(), []),
            ("the lock", self.root.lock(), None),
            ("the state directory", sorted(os.listdir(self.root.state)), self.state),
            ("artifacts", [p.name for p in (self.root.state / "artifacts").glob("*.part")], []),
            ("the deploy root", sorted(os.listdir(self.root.path)), [".oxistrano", "current", "releases", "shared"]),
        ):
            if is_there != wanted:
                yield f"after the good deploy {what}: {is_there}, not {wanted}"
        if tree(self.root / "releases/v4") != self.whole["v4"]:
            yield "after the good deploy, v4 is not whole"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ansible", required=True, help="ansible-playbook in a virtual environment")
    parser.add_argument("--on", default=",".join(FILE_SYSTEMS), help="file systems, with commas")
    parser.add_argument("--seeds", type=int, default=5, help="how many on each file system")
    parser.add_argument("--first", type=int, help="the first seed; without, it is chosen and printed")
    parser.add_argument("--all", action="store_true", help="a file system that cannot be tried is a failure")
    given = parser.parse_args()
    if os.getuid() != 0 or not shutil.which("strace"):
        print("needs root and strace", file=sys.stderr)
        return 2
    ansible = Ansible(given.ansible)
    first = given.first if given.first is not None else random.randrange(1_000_000)
    print(f"seeds from {first} (--first {first}), ansible-core {ansible.version}", flush=True)
    rows, failed = [], False
    for kind in given.on.split(","):
        top = Path(tempfile.mkdtemp(prefix="disturbed-"))
        top.chmod(0o755)
        place = None
        seen, bad = Counter(), 0
        try:
            place = Place(kind, top / "place")
            plays = Plays(ansible, place, top)
            plays.prepare()
            for seed in range(first, first + given.seeds):
                name, code, met, wrong = plays.disturbed(seed)
                seen["plays"] += 1
                seen["met"] += met
                seen["failed" if code > 0 else "killed" if code < 0 else "well"] += 1
                bad += bool(wrong)
                print(f"{kind}, seed {seed}, {name}: {'; '.join(wrong) or 'holds'} (code {code})", flush=True)
            rows.append([kind, seen["plays"], seen["well"], seen["failed"], seen["killed"], bad])
            if seen["met"] < seen["plays"]:
                failed = True
                print(f"{kind}: {seen['plays'] - seen['met']} did not come to their operation")
        except NotHere as missing:
            failed = failed or given.all
            print(f"*** NOT CHECKED: {kind}: {missing}", flush=True)
        finally:
            if place:
                place.close()
            shutil.rmtree(top, ignore_errors=True)
        failed = failed or bool(bad)
    print("\n| file system | plays | went on | failed | killed | violations |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    return int(failed or not rows)


if __name__ == "__main__":
    sys.exit(main())
