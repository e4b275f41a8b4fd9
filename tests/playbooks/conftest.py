"""The roles, run by a real ansible-playbook.

    scripts/playbooks 2.22 -- tests/playbooks/test_deploy.py

What this ansible-core or this machine has not is deselected, and the summary says what and
why; nothing is passed or skipped in silence.
"""

from __future__ import annotations

import fcntl
import functools
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# The package `shop`. Last: its neighbours are no modules.
sys.path.append(str(Path(__file__).parent.parent))

import arm64
import server as server_module
import sshd as sshd_module
from ansible_run import CHECKOUT, DEPLOY, HERE, Ansible, Project
from magento_run import Magento
from shop import Missing, Shop, requirements
from sshd import Sshd


def pytest_addoption(parser):
    parser.addoption(
        "--ansible",
        default=os.environ.get("OXISTRANO_ANSIBLE") or Path(sys.executable).with_name("ansible-playbook"),
        help="the ansible-playbook to test with, in a virtual environment (or OXISTRANO_ANSIBLE)",
    )
    parser.addoption("--sweep", action="store_true", help="everything that is a sweep in full, not a sample of it")
    parser.addoption("--not-once", action="store_true", help="leave out what is the same whatever the version of ansible-core")
    parser.addoption(
        "--first", action="store_true", help="of a play of Magento with parameters the first set alone, unless it is marked `each`"
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(what): what must be there for the test to make sense")
    config.addinivalue_line("markers", "each: with --first as well, all sets of parameters: they take different ways through the role")
    config.addinivalue_line("markers", "once: the same whatever the version of ansible-core (--not-once)")
    try:
        config.ansible = Ansible(config.getoption("--ansible"))
    except RuntimeError as error:
        raise pytest.UsageError(f"--ansible: {error}") from error
    if not (CHECKOUT / "plugins/modules/release_setup").is_file():
        raise pytest.UsageError("plugins/modules has no programs: build them first (make build)")
    config.not_here, config.further = {}, 0


def pytest_report_header(config):
    return f"ansible-core {config.ansible.version} ({config.ansible.program})"


# Debian 12's frameworks: the file with the version, its beginning, and the packages.
FRAMEWORKS = {
    "symfony": ("Symfony/Component/HttpKernel/Kernel.php", "5.4.", "php-symfony-framework-bundle"),
    "laravel": ("Illuminate/Foundation/Application.php", "8.", "php-laravel-framework php-sqlite3"),
}


def reason_against(what, ansible):
    """Why a test that needs this cannot run; None if it can."""
    if what == "root":
        return None if os.getuid() == 0 else "not run as root"
    if what == "arm64":
        return arm64.reason_against() if os.environ.get("OXISTRANO_ARM64") else "make test-arm64 runs it"
    if what == "moto":
        there = importlib.util.find_spec("moto") and {"boto3", "amazon.aws"} <= ansible.has
        return None if there else "no moto, boto3 and amazon.aws beside this ansible-core"
    if what == "server":
        return server_module.reason_against(ansible.program.parent)
    if what in FRAMEWORKS:
        name, begins, packages = FRAMEWORKS[what]
        path = Path("/usr/share/php", name)
        if not path.is_file():
            return f"it needs Debian packages that are not here: apt install {packages}"
        there = f"const VERSION = '{begins}" in path.read_text()
        return None if there else f"the {what} of this machine is not {begins}x, Debian 12's"
    if what == "shop":
        try:
            requirements.check()
        except Missing as missing:
            return str(missing)
        return None
    if "." in what:
        return None if what in ansible.has else f"no collection {what} beside this ansible-core"
    return None if shutil.which(what) else f"no {what} on this machine"


# Tests that look at what a user without a home has below /var/tmp are not run at once.
OTHER_PLACES = ("test_transport", "test_program_places", "test_hosts", "test_multiplex")
# The longest first, so that none is left at the end for one processor alone.
LONGEST = (
    "test_magento_hosts",
    "other places",
    "test_magento_deploy",
    "test_magento_online",
    "test_magento_rollback",
    "test_hooks",
    "test_quickstart",
)


def group_of(file):
    """What one process runs, one after the other: the tests of a file, for what they share is made once."""
    return "other places" if file.stem in OTHER_PLACES else file.stem


@pytest.fixture(autouse=True)
def alone(request):
    """Tests of other groups as well may look there."""
    if request.path.stem not in OTHER_PLACES and "for_nobody" not in request.fixturenames:
        yield
        return
    with open(Path(tempfile.gettempdir()) / f"oxistrano-tests-{os.getuid()}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        """A process has the tests of a group, one after the other."""

        def _split_scope(self, nodeid):
            return group_of(Path(nodeid.split("::")[0]))

    return Groups(config, log)


def beyond_the_first(items):
    """Plays of Magento with further sets of parameters, where one shows most of what all show."""
    seen = set()
    for item in items:
        name = item.nodeid.split("[")[0]
        if name in seen and item.path.stem.startswith("test_magento_") and not any(item.iter_markers("each")):
            yield item
        seen.add(name)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    kept, left = [], []
    further = set(beyond_the_first(items)) if config.getoption("--first") else set()
    config.further = len(further)
    for item in items:
        if item in further or (config.getoption("--not-once") and any(item.iter_markers("once"))):
            left.append(item)
            continue
        needs = [what for marker in item.iter_markers("needs") for what in marker.args]
        reasons = [reason for reason in (reason_against(what, config.ansible) for what in needs) if reason]
        if reasons:
            left.append(item)
            config.not_here[item.nodeid] = "; ".join(reasons)
        else:
            kept.append(item)
    if left:
        items[:] = kept
        config.hook.pytest_deselected(items=left)
    groups = [*LONGEST, *{group_of(item.path): None for item in items}]
    items.sort(key=lambda item: groups.index(group_of(item.path)))


def pytest_sessionfinish(session):
    # Where several run at once, those that collect are others than the one that prints the summary.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["not_here"] = session.config.not_here
        session.config.workeroutput["further"] = session.config.further


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    told = getattr(node, "workeroutput", {})
    node.config.not_here |= told.get("not_here", {})
    node.config.further = told.get("further", node.config.further)


def pytest_terminal_summary(terminalreporter, config):
    if config.further:
        terminalreporter.write_line(f"--first: {config.further} plays of Magento were left out, further sets of parameters")
    if config.not_here:
        terminalreporter.section("deselected: cannot be tested here")
        for test, reason in sorted(config.not_here.items()):
            terminalreporter.write_line(f"{test}: {reason}")


@pytest.fixture(scope="session")
def ansible(request):
    return request.config.ansible


@pytest.fixture(scope="session")
def collections(tmp_path_factory):
    """A collections path that holds this checkout and nothing else of its own."""
    path = tmp_path_factory.mktemp("collections")
    namespace = path / "ansible_collections/oxistrano"
    namespace.mkdir(parents=True)
    (namespace / "deploy").symlink_to(CHECKOUT)
    return path


@pytest.fixture
def project(ansible, collections, tmp_path):
    """A project with one host, this machine, that has no Python as far as Ansible knows."""
    return Project(ansible, tmp_path / "project", collections)


@pytest.fixture(scope="session")
def sshd():
    # Sockets of ssh lie there: their paths have to be short.
    home = Path(tempfile.mkdtemp(prefix="oxi-", dir="/tmp"))
    server = Sshd(home)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


class Artifacts:
    """An application as small as one can be, in versions."""

    def __init__(self, directory):
        self.directory = directory

    def tree(self, version):
        path = self.directory / f"shop-{version}"
        if not path.exists():
            for name, content in {
                "index.php": f"<?php echo 'shop {version}';\n",
                "pub/index.php": f"<?php // {version}\n",
                "app/etc/config.php": "<?php return [];\n",
                # Where shared paths will be linked to; not empty (ansistrano/deploy#145).
                "var/.gitkeep": "from the build machine\n",
                "pub/media/old.jpg": "from the build machine\n",
            }.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_text(content)
            (path / "latest").symlink_to("pub/index.php")
            tool = path / "tool"
            tool.write_text("#!/bin/sh\n")
            tool.chmod(0o755)
            # rsync takes files of the same size and second for the same.
            of_its_own = 1_700_000_000 + 60 * len(list(self.directory.glob("shop-*")))
            for file in path.rglob("*"):
                os.utime(file, (of_its_own, of_its_own), follow_symlinks=False)
        return path

    def archive(self, version, kind="tar.gz"):
        path = self.directory / f"shop-{version}.{kind}"
        if not path.exists():
            tree = self.tree(version)
            command = {
                "tar.gz": ["tar", "-C", tree, "-czf", path, "."],
                "tar.zst": ["tar", "-C", tree, "--zstd", "-cf", path, "."],
                "zip": [sys.executable, "-m", "zipfile", "-c", path, *sorted(tree.iterdir())],
            }[kind]
            subprocess.run(command, check=True)
        return path


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    return Artifacts(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def seed(ansible, collections, artifacts, tmp_path_factory):
    """A deploy root with the releases 1 and 2, to be copied: `project.seed(seed)`."""
    project = Project(ansible, tmp_path_factory.mktemp("seed"), collections)
    for version in ("1", "2"):
        project.run(DEPLOY, artifact=artifacts.archive(version), ansistrano_release_version=version).good()
    return project.root.path


@pytest.fixture(scope="session")
def web(artifacts):
    """The address of an HTTP server that serves the artifacts."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(artifacts.directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def hook():
    """The path of a hook file."""
    return lambda name: str(HERE / f"playbooks/hooks/{name}.yml")


@pytest.fixture(scope="module")
def shop(request):
    """A running shop as the test file wants it: WEB_HOSTS (one), DOCUMENT_ROOT (false)."""
    hosts, document_root = (getattr(request.module, name, 0) for name in ("WEB_HOSTS", "DOCUMENT_ROOT"))
    with Shop(hosts=hosts or 1, document_root=bool(document_root)) as running:
        yield running


@pytest.fixture
def magento(ansible, collections, shop, tmp_path):
    """A project that deploys to that shop, on which v1 is live."""
    return Magento(ansible, tmp_path / "project", collections, shop).reset()


@pytest.fixture
def over_ssh(project, monkeypatch):
    """Lets the project reach this machine over SSH, with the same HOME as without it."""
    home = Path(tempfile.mkdtemp(prefix="oxi-", dir="/tmp"))
    monkeypatch.setattr(sshd_module, "CONFIG", f"{sshd_module.CONFIG}SetEnv HOME={project.environment['HOME']}\n")
    server = sshd_module.Sshd(home)
    try:
        project.variables |= server.start().variables()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
