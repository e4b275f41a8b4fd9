"""Everything that is deployed, the same bytes on every run; and the HTTP server that has it."""

import base64
import gzip
import http.server
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.parse
import zipfile

OLD = 1577934244  # 2020-01-02 03:04:04 UTC; an even second, which zip can store


def write(root, path, text="", mode=0o644):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def tool_env(scratch):
    """A clean environment: own HOME, no ANSIBLE_* or GIT_* of the caller."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "GIT_", "OXISTRANO_")) and k != "HGPLAIN"}
    date = f"{OLD} +0000"
    env.update(
        HOME=str(scratch / "home"),
        TZ="UTC",
        LC_ALL="C.UTF-8",
        GIT_AUTHOR_DATE=date,
        GIT_COMMITTER_DATE=date,
        GIT_CONFIG_NOSYSTEM="1",
        HGUSER="compat",
        HGRCPATH="",
    )
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        env.pop(name, None)
        env.pop(name.upper(), None)
    return env


def write_app(top, n, plain=False):
    """Version n (1..3) of the application; plain: no links, no odd names."""
    write(top, "index.html", f"<h1>version {n}</h1>\n")
    write(top, "bin/run.sh", "#!/bin/sh\necho run\n", 0o755)
    write(top, "config/app.ini", f"version = {n}\n", 0o640)
    write(top, "config/secret.key", "not a secret\n", 0o600)
    write(top, "logs/.gitkeep")
    write(top, "uploads/sample.txt", "content inside a path to be shared\n")
    write(top, "web/media/cache/old.bin", "\0\1\2")
    write(top, "web/media/a.css", "a{}\n")
    write(top, "web/page.html", "<p>page</p>\n")
    write(top, "top.txt", "top\n", 0o664)
    write(top, "scratch.tmp", "tmp\n")
    write(top, f"only-in-v{n}.txt", f"{n}\n", 0o444)
    (top / "empty").mkdir()
    (top / "config").chmod(0o750)
    if plain:
        return
    write(top, "my dir/naïve file.txt", "blanks and accents\n")
    (top / "web/home").symlink_to("../index.html")
    (top / "dir-link").symlink_to("web")
    (top / "broken-link").symlink_to("nowhere/at-all")


def settle(top, chown=False):
    """Fixed mtimes, bottom up (and a foreign owner for one subtree)."""
    for path, dirs, files in os.walk(top, topdown=False):
        for name in files + dirs:
            os.utime(os.path.join(path, name), (OLD, OLD), follow_symlinks=False)
    if chown and os.geteuid() == 0:
        for path in (top / "uploads", top / "uploads/sample.txt"):
            os.chown(path, 1234, 1235)
        (top / "uploads").chmod(0o2775)
    os.utime(top, (OLD, OLD))


def make_tar(source, target, mode, prefix=""):
    def plain(info):
        info.mtime = OLD
        if "uploads" in info.name:
            info.uid, info.gid, info.uname, info.gname = 1234, 1235, "", ""
        else:
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
        return info

    # gzip is done apart: tarfile would store the time of the run in its header.
    with tarfile.open(target, mode.replace("gz", ""), format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(source.rglob("*")):
            tar.add(path, prefix + str(path.relative_to(source)), recursive=False, filter=plain)
    if mode.endswith("gz"):
        target.write_bytes(gzip.compress(target.read_bytes(), mtime=OLD))


def make_zip(source, target, unix=True):
    when = time.gmtime(OLD)[:6]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(source.rglob("*")):
            name = str(path.relative_to(source))
            if not unix and (path.is_symlink() or not name.isascii()):
                continue
            is_dir = path.is_dir() and not path.is_symlink()
            info = zipfile.ZipInfo(name + ("/" if is_dir else ""), when)
            info.create_system = 3 if unix else 0
            info.external_attr = (path.lstat().st_mode << 16 if unix else 0) | (0x10 if is_dir else 0x20)
            data = os.readlink(path).encode() if path.is_symlink() else b"" if is_dir else path.read_bytes()
            info.compress_type = zipfile.ZIP_STORED if is_dir else zipfile.ZIP_DEFLATED
            out.writestr(info, data)


def run_tool(env, cwd, *argv):
    done = subprocess.run(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        sys.exit(f"fixture command failed: {' '.join(argv)}\n{done.stdout}")
    return done.stdout.strip()


def fill(repo, n, keep):
    """Replace the content of a working copy by version n."""
    for entry in repo.iterdir():
        if entry.name not in keep:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    write_app(repo, n)
    (repo / "empty").rmdir()


def make_git(fx, env):
    top = fx / "git"
    work = top / "work"
    work.mkdir(parents=True)

    def git(repo, *argv):
        return run_tool(env, work / repo, "git", *argv)

    for name, sub in (("inner", None), ("lib", "inner"), ("app", "lib")):
        (work / name).mkdir()
        git(name, "init", "-q", "-b", "master")
        if name == "app":
            continue
        write(work / name, "src/code.txt", f"{name}\n")
        write(work / name, "src/tool.sh", "#!/bin/sh\n", 0o755)
        git(name, "add", "-A")
        git(name, "commit", "-q", "-m", "one")
        if sub:
            git(name, "remote", "add", "origin", str(top / f"{name}.git"))
            git(name, "submodule", "--quiet", "add", f"../{sub}.git", f"deep/{sub}")
            git(name, "commit", "-q", "-m", "submodule")
        run_tool(env, top, "git", "clone", "-q", "--bare", str(work / name), str(top / f"{name}.git"))
    git("app", "remote", "add", "origin", str(top / "app.git"))
    for n in (1, 2, 3):
        fill(work / "app", n, (".git", ".gitmodules", "lib"))
        if n == 1:
            git("app", "submodule", "--quiet", "add", "../lib.git", "lib")
        git("app", "add", "-A")
        git("app", "commit", "-q", "-m", f"version {n}")
        if n < 3:
            git("app", "tag", f"v{n}")
    git("app", "branch", "feature/x", "v2")
    ids = {"@GIT_V2@": git("app", "rev-parse", "v2")}
    run_tool(env, top, "git", "clone", "-q", "--bare", str(work / "app"), str(top / "app.git"))
    shutil.rmtree(work)
    return ids


def make_svn(fx, env):
    run_tool(env, fx, "svnadmin", "create", "svn")
    url = f"file://{fx}/svn"
    work = fx / "svn-work"
    seed = fx / "svn-seed"
    write_app(seed / "trunk", 1)
    run_tool(env, fx, "svn", "import", "-q", "-m", "1", str(seed), url)
    run_tool(env, fx, "svn", "checkout", "-q", f"{url}/trunk", str(work))
    fill(work, 2, (".svn",))
    (work / "empty").mkdir(exist_ok=True)
    (work / "only-in-v1.txt").unlink(missing_ok=True)
    run_tool(env, work, "svn", "rm", "-q", "only-in-v1.txt")
    run_tool(env, work, "svn", "add", "-q", "--force", ".")
    run_tool(env, work, "svn", "commit", "-q", "-m", "2")
    write(work, "index.html", "<h1>version 3</h1>\n")
    run_tool(env, work, "svn", "commit", "-q", "-m", "3")
    run_tool(env, work, "svn", "copy", "-q", "--parents", "-m", "4", f"{url}/trunk@2", f"{url}/branches/stable")
    shutil.rmtree(work)
    shutil.rmtree(seed)


def make_hg(fx, env):
    repo = fx / "hg"
    repo.mkdir()
    ids = {}
    run_tool(env, repo, "hg", "init", "-q")
    for n in (1, 2, 3):
        fill(repo, n, (".hg", ".hgtags"))
        run_tool(env, repo, "hg", "addremove", "-q")
        run_tool(env, repo, "hg", "commit", "-q", "-m", f"version {n}", "-d", f"{OLD} 0")
        if n < 3:
            ids[f"@HG_V{n}@"] = run_tool(env, repo, "hg", "id", "-i", "--debug")
            run_tool(env, repo, "hg", "tag", "-d", f"{OLD} 0", f"v{n}")
    return ids


def make_fixtures(scratch, env, wanted):
    fx = scratch / "fixtures"
    home = scratch / "home"
    home.mkdir(parents=True)
    (home / ".gitconfig").write_text(
        '[user]\n\tname = compat\n\temail = compat@localhost\n[protocol "file"]\n\tallow = always\n[init]\n\tdefaultBranch = master\n'
    )
    for n in (1, 2, 3):
        write_app(fx / f"app/v{n}", n)
        settle(fx / f"app/v{n}", chown=True)
        write_app(fx / f"plain/v{n}", n, plain=True)
        settle(fx / f"plain/v{n}")
    arch = fx / "archives"
    arch.mkdir()
    for n in (1, 2, 3):
        app = fx / f"app/v{n}"
        make_tar(app, arch / f"app-v{n}.tar.gz", "w:gz")
        make_zip(app, arch / f"app-v{n}.zip")
    make_zip(fx / "app/v1", arch / "dos.zip", unix=False)
    make_tar(fx / "app/v2", arch / "app-v2.tar", "w:")
    make_tar(fx / "app/v3", arch / "app-v3.tar.bz2", "w:bz2")
    make_tar(fx / "app/v1", arch / "app-v1.tar.xz", "w:xz")
    make_tar(fx / "app/v1", arch / "wrapped.tar.gz", "w:gz", prefix="wrapped-1.0/")
    ids = {}
    if "git" in wanted:
        ids.update(make_git(fx, env))
    if "svn" in wanted:
        make_svn(fx, env)
    if "hg" in wanted:
        ids.update(make_hg(fx, env))
    return fx, ids


def serve(archives):
    """HTTP server on 127.0.0.1 in a thread; returns it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            kind, _, name = url.path.lstrip("/").partition("/")
            headers = {}
            if kind == "download":
                name = urllib.parse.parse_qs(url.query).get("name", [""])[0]
                headers["Content-Disposition"] = f'attachment; filename="{name}"'
            if kind == "redirect":
                self.answer(302, {"Location": f"/files/{name}"})
                return
            if kind == "token" and self.headers.get("X-Token") != "sesame":
                self.answer(403)
                return
            basic = "Basic " + base64.b64encode(b"user:pass").decode()
            if kind == "basic" and self.headers.get("Authorization") != basic:
                # No WWW-Authenticate on purpose: only an unasked header gets in.
                self.answer(403)
                return
            file = archives / os.path.basename(name)
            if not name or not file.is_file():
                self.answer(404)
                return
            self.answer(200, headers, file.read_bytes())

        def answer(self, status, headers=None, body=b""):
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
