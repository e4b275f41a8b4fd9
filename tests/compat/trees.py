"""What is on the disk after a play, without what differs from run to run, and how two of them differ."""

import hashlib
import os
import re
import stat
import subprocess
from pathlib import Path

VCS = (".git", ".svn", ".hg")
FIELDS = ("type", "mode", "uid", "gid", "link", "nlink", "size", "sha256")


class Normaliser:
    def __init__(self, side_dir, scenario):
        self.side = str(side_dir)  # <scratch>/runs/<scenario>/<side>
        self.scratch = str(Path(side_dir).parents[2])
        self.auto = scenario.auto_version
        self.versions = {}

    def learn(self, root):
        """Number generated versions in the order of their names."""
        if self.auto and (root / "releases").is_dir():
            found = set(self.versions) | {e.name for e in (root / "releases").iterdir() if re.fullmatch(r"\d{14}Z", e.name)}
            self.versions = {v: f"<version {i + 1}>" for i, v in enumerate(sorted(found))}

    def text(self, value):
        value = value.replace(self.side, "<side>").replace(self.scratch, "<scratch>")
        for version, name in self.versions.items():
            value = value.replace(version, name)
        return value

    def data(self, value):
        return self.text(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def vcs_state(path, env):
    """What a checkout is at; the inner files hold times and inode numbers."""
    commands = {
        ".git": [
            ("HEAD", ["git", "rev-parse", "HEAD"]),
            ("origin", ["git", "remote", "get-url", "origin"]),
            ("status", ["git", "status", "--porcelain"]),
        ],
        ".svn": [("revision", ["svn", "info", "--show-item", "revision"]), ("url", ["svn", "info", "--show-item", "relative-url"])],
        ".hg": [("id", ["hg", "id", "-i"])],
    }[path.name]
    for label, argv in commands:
        done = subprocess.run(argv, cwd=path.parent, env=env, text=True, check=False, stdin=subprocess.DEVNULL, capture_output=True)
        yield label, done.stdout.strip() if done.returncode == 0 else "(unknown)"


def manifest(root, norm, env):
    norm.learn(root)
    entries = {}

    def visit(path, name):
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        entry = {
            "type": {stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFREG: "file"}.get(kind, "special"),
            "mode": f"{stat.S_IMODE(info.st_mode):04o}",
            "uid": info.st_uid,
            "gid": info.st_gid,
            # A time before 2021 was carried over from the source.
            "mtime": int(info.st_mtime) if info.st_mtime < 1609459200 else "run time",
        }
        if entry["type"] == "link":
            entry["link"] = norm.text(os.readlink(path))
            del entry["mode"]
        elif entry["type"] == "file":
            data = norm.data(path.read_bytes())
            entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest(), nlink=info.st_nlink)
        entries[norm.text(name)] = entry
        if entry["type"] == "dir":
            if path.name in VCS:
                for label, value in vcs_state(path, env):
                    entries[f"{norm.text(name)} ({label})"] = {"type": "vcs", "link": norm.text(value)}
                return
            for child in sorted(os.listdir(path)):
                visit(path / child, child if name == "." else f"{name}/{child}")

    if os.path.lexists(root):
        visit(root, ".")
    return entries


def compare(up, ours, mtimes):
    """Yield (path, text) for each difference; children of a one-sided folder are left out."""
    fields = FIELDS + (("mtime",) if mtimes else ())
    hidden = []
    for path in sorted(set(up) | set(ours)):
        if any(path.startswith(h) for h in hidden):
            continue
        if path not in ours or path not in up:
            have, side = (up, "upstream") if path in up else (ours, "ours")
            entry = have[path]
            more = sum(1 for p in have if p.startswith(path + "/"))
            if entry["type"] == "dir":
                hidden.append(path + "/")
            what = " ".join(f"{k}={entry[k]}" for k in ("type", "mode", "link") if k in entry)
            yield path, f"only in {side} ({what}{f', {more} entries below' if more else ''})"
            continue
        for f in fields:
            a, b = up[path].get(f), ours[path].get(f)
            if a != b:
                yield path, f"{f}: upstream {a!r}, ours {b!r}"
