"""Somebody who follows a page from its first line to its last: writes its files, types its commands, in its order."""

from __future__ import annotations

import re

import yaml


def blocks(page):
    """Each fenced block: its language, its title and its text."""
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', page.read_text(), re.M | re.S)
    assert found or page.read_text().count("```") == 0, page
    return found


def is_file(title):
    """A title that is a path names a file; others say where to type."""
    return bool(title) and " " not in title


def on_the_server(title):
    """The path of a file that is the server's; None if the title names none."""
    found = re.fullmatch(r"on the server: (/\S+)", title or "")
    return found and found[1]


def lines_of(text):
    """Commands, each on one line."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def secret(value, secrets):
    """What GitHub puts in place of ${{ secrets.NAME }}."""
    return re.sub(r"\$\{\{ secrets\.(\w+) \}\}", lambda found: secrets[found[1]], value)


class Reader:
    """`type` takes the next command of the page, so none is left out and none comes too early."""

    def __init__(self, page, server, directory):
        """`directory`: where the reader's files are."""
        self.server, self.directory = server, directory
        self.server.reader(f"mkdir -p {directory}")
        self.left, self.lines = blocks(page), []
        self.files, self.done, self.nginx = {}, [], []

    def write(self, name, text):
        self.files[name] = text
        path = self.server.path(f"{self.directory}/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.server.admin(f"chown -R reader: {self.directory}")

    def read_on(self):
        """Up to the next command; writes the files on the way. False at the end of the page."""
        while self.left and not self.lines:
            language, title, text = self.left.pop(0)
            if is_file(title):
                self.write(title, text)
            elif language == "nginx":
                self.nginx += lines_of(text)
            elif on_the_server(title):
                self.server.write(on_the_server(title), text)
            else:
                assert language == "sh", (language, title)
                self.lines = lines_of(text)
        return bool(self.lines)

    def type(self, begins, **variables):
        """The next command, which begins so, on the controller."""
        return self.server.reader(self.take(begins), cwd=self.directory, **variables)

    def again(self, *commands):
        """Commands of the page that were typed before, on the controller."""
        for command in commands:
            (line,) = {line for line in self.done if line.startswith(command)}
            self.server.reader(line, cwd=self.directory)

    def type_on_the_server(self, begins, cwd="/root"):
        """The next command, as root on the server."""
        return self.server.admin(self.take(begins), cwd=cwd)

    def take(self, begins):
        assert self.read_on(), f"the page has no more commands; expected: {begins}"
        assert self.lines[0].startswith(begins), f"the page's next command is {self.lines[0]!r}; expected: {begins}"
        self.done.append(self.lines.pop(0))
        return self.done[-1]

    def has_finished(self):
        """No command is left, and every script was called by a command or by a script that was."""
        assert not self.read_on(), f"no test runs {self.lines}"
        called, scripts = "\n".join(self.done), {name for name in self.files if name.endswith(".sh")}
        while found := [name for name in scripts if re.search(rf"(\./|\bsh ){re.escape(name)}\b", called)]:
            scripts -= set(found)
            called = "\n".join(self.files[name] for name in found)
        assert not scripts, f"nothing calls {scripts}"

    # What hosted CI does with the page's file. A job has a new machine: no checkout, no key, no known hosts.

    def clone(self, job):
        self.directory_of_job = f"/home/reader/ci/{job}"
        self.server.reader(f"rm -rf .ssh ci/{job} && git clone -q --branch main $PWD/origin.git ci/{job}")

    def in_job(self, command, **variables):
        self.done.append(command)
        return self.server.reader(command, cwd=self.directory_of_job, **variables)

    def keep(self, path, may_be_missing=False):
        there = self.server.path(f"{self.directory_of_job}/{path}").exists()
        assert there or may_be_missing, f"{path} was not made"
        if there:
            self.server.reader(f"mkdir -p ~/kept && cp {path} ~/kept/", cwd=self.directory_of_job)

    def github(self, name, **secrets):
        """Each job, each step."""
        said = []
        for job, told in yaml.safe_load(self.files[name])["jobs"].items():
            for step in told["steps"]:
                of, uses = step.get("with", {}), step.get("uses", "").partition("@")[0]
                if uses == "actions/checkout":
                    self.clone(job)
                elif uses == "actions/upload-artifact":
                    self.keep(of["path"], of.get("if-no-files-found") == "ignore")
                elif uses == "actions/download-artifact":
                    self.server.reader(f"mkdir -p {of['path']} && cp ~/kept/*.tar.zst {of['path']}", cwd=self.directory_of_job)
                elif uses == "shivammathur/setup-php":
                    assert "composer" in of["tools"]
                else:
                    values = {name: secret(value, secrets) for name, value in step.get("env", {}).items()}
                    said.append(self.in_job(step["run"], **values))
        return "".join(said)

    def gitlab(self, name, **variables):
        """Each job; the lines of a job are one shell's."""
        told = yaml.safe_load(self.files[name])
        said = []
        for job in told.pop("stages"):
            of = told[job]
            self.clone(job)
            self.server.reader("[ ! -d ~/kept ] || { mkdir -p build && cp ~/kept/*.tar.zst build; }", cwd=self.directory_of_job)
            lines = [*of.get("before_script", []), *of["script"]]
            said.append(self.in_job("\n".join(lines), **variables, **of.get("variables", {})))
            for path in of["artifacts"]["paths"]:
                self.keep(path, of["artifacts"].get("when") == "always")
        return "".join(said)
