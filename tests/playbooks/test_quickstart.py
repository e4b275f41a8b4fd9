"""What the quick starts tell a reader to write and to run: docs/quickstart, and the samples of docs/notifications.md."""

from __future__ import annotations

import re
import subprocess
import tarfile

import pytest
import yaml
from ansible_run import CHECKOUT, Project, Root

PAGES = sorted((CHECKOUT / "docs/quickstart").glob("*.md")) + [CHECKOUT / "docs/notifications.md"]
PLAYBOOKS = {"deploy.yml", "rollback.yml"}


def blocks(page):
    """Each fenced block: its language, its title and its text."""
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', page.read_text(), re.M | re.S)
    assert found or page.read_text().count("```") == 0, page
    return found


def titled(page, title):
    (text,) = [text for _, name, text in blocks(page) if name == title]
    return text


def write(page, directory):
    """The files that the page shows, below the directory."""
    for language, title, text in blocks(page):
        if title and " " not in title:
            path = directory / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if language == "sh":
                path.chmod(0o755)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_sample_of_a_page_is_well_formed(page):
    assert page.read_text().count("```") == 2 * len(blocks(page)), "a fence that no language follows is not looked at"
    for language, title, text in blocks(page):
        assert language in ("sh", "yaml", "nginx", "ini"), (language, title)
        if language == "yaml":
            assert yaml.safe_load(text), title
        if language == "sh":
            checked = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True)
            assert checked.returncode == 0 and not checked.stderr, (title, checked.stderr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_variable_and_option_of_ours_in_a_page_exists(page):
    known = set(re.findall(r"^\| `(\w+)` \|", (CHECKOUT / "docs/variables.md").read_text(), re.M))
    known |= set(re.findall(r"`(\w+)`", (CHECKOUT / "docs/guide.md").read_text()))
    used = set(re.findall(r"\b(?:ansistrano|oxistrano|magento2)_\w+\b", page.read_text()))
    assert used - known == set()
    for language, title, text in blocks(page):
        loaded = yaml.safe_load(text) if language == "yaml" else None
        for task in loaded if isinstance(loaded, list) else []:
            for name, arguments in task.items():
                if not name.startswith("oxistrano.deploy."):
                    continue
                module = (CHECKOUT / f"plugins/modules/{name.rpartition('.')[2]}.py").read_text()
                options = yaml.safe_load(re.search(r'^DOCUMENTATION = r"""\n(.*?)^"""', module, re.M | re.S).group(1))["options"]
                assert set(arguments) <= set(options), (title, name)
    # Links between pages lead somewhere, headings too.
    for path, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        headings = (
            [
                re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in target.read_text().splitlines()
                if line.startswith("#")
            ]
            if heading
            else []
        )
        assert not heading or heading in headings, (path, heading)


@pytest.mark.once
def test_every_playbook_and_hook_file_of_a_page_is_one(ansible, collections, tmp_path):
    """One run of Ansible for all: it loads playbooks, roles, and the hook files by an include that is static."""
    playbooks = []
    for page in PAGES:
        directory = tmp_path / page.stem
        directory.mkdir()
        write(page, directory)
        for path in sorted(directory.rglob("*.yml")):
            loaded = yaml.safe_load(path.read_text())
            if not isinstance(loaded, list):
                continue
            playbook = path
            if "hosts" not in loaded[0]:
                playbook = path.with_name(f"play-{path.name}")
                playbook.write_text(yaml.safe_dump([{"hosts": "all", "tasks": [{"ansible.builtin.import_tasks": str(path)}]}]))
            playbooks.append(playbook)
    assert {path.name for path in playbooks} >= PLAYBOOKS
    project = Project(ansible, tmp_path / "project", collections)
    first, *others = map(str, playbooks)
    project.run(first, *others, "--syntax-check").good()
    assert len(playbooks) > 8


# What a shop has, and what becomes of it in the archive.
SHOP = {
    "app/etc/config.php": True,
    "app/etc/env.php": False,
    "pub/index.php": True,
    "pub/media/catalog/a.jpg": False,
    "pub/static/deployed_version.txt": True,
    "generated/code/A.php": True,
    "var/log/system.log": False,
    "auth.json": False,
    "build/old.tar.zst": False,
    ".git/HEAD": False,
    "deploy/hosts.yml": False,
    "dev/tests/phpunit.xml": False,
    "node_modules/a/index.js": False,
    # Directories of the same names, elsewhere.
    "vendor/magento/module-a/dev/B.php": True,
    "vendor/magento/framework/var/C.php": True,
    "vendor/magento/module-theme/pub/media/logo.svg": True,
    "vendor/x/build/D.php": True,
    "lib/web/node_modules/e.js": True,
}


def packed(page, directory, archive):
    write(page, directory)
    subprocess.run(["./pack.sh"], cwd=directory, check=True, capture_output=True)
    path = directory / archive
    if path.suffix == ".zst":
        subprocess.run(["zstd", "-q", "-d", path], check=True)
        path = path.with_suffix("")
    with tarfile.open(path) as tar:
        return {name.removeprefix("./") for name in tar.getnames()}


@pytest.mark.needs("zstd")
def test_the_tar_line_of_magento_takes_a_shop_and_leaves_what_belongs_to_the_server(tmp_path):
    for name in SHOP:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    names = packed(CHECKOUT / "docs/quickstart/magento.md", tmp_path, "build/shop.tar.zst")
    assert {name for name in SHOP if name in names} == {name for name, taken in SHOP.items() if taken}
    # Nor an empty directory in the place of one that is shared.
    assert not {"var", "pub/media"} & names


@pytest.mark.needs("zstd")
@pytest.mark.parametrize(
    "page, archive, left",
    [
        ("symfony", "build/app.tar.zst", [".env.local", "var/log/prod.log", "tests/ATest.php"]),
        ("laravel", "build/app.tar.zst", [".env", "storage/logs/laravel.log", "bootstrap/cache/config.php"]),
        ("wordpress", "build/site.tar.zst", ["wp-config.php", "wp-content/uploads/a.jpg"]),
    ],
)
def test_the_tar_line_of_the_other_pages_does_so_too(tmp_path, page, archive, left):
    taken = [
        "public/index.php",
        "vendor/a/tests/b.php",
        "vendor/a/var/c.php",
        "vendor/a/storage/d.php",
        "wp-content/plugins/a/wp-content/uploads/e",
    ]
    for name in [*left, *taken]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    names = packed(CHECKOUT / f"docs/quickstart/{page}.md", tmp_path, archive)
    assert [name for name in left if name in names] == []
    assert [name for name in taken if name not in names] == []


def test_the_live_shop_keeps_its_images_when_they_move(tmp_path):
    """The commands that a reader runs as root on a server, below another directory than /var/www."""
    page = CHECKOUT / "docs/quickstart/magento.md"
    for name in ("html/app/etc/env.php", "html/pub/media/catalog/a.jpg", "html/pub/index.php"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    commands = titled(page, "on the server: configuration and images").replace("/var/www", str(tmp_path))
    subprocess.run(["sh", "-euc", commands.replace("www-data:", "$(id -un):")], check=True)
    assert (tmp_path / "html/pub/media/catalog/a.jpg").read_text() == "html/pub/media/catalog/a.jpg"
    assert (tmp_path / "shop/shared/pub/media/catalog/a.jpg").is_file()
    assert (tmp_path / "shop/shared/app/etc/env.php").read_text() == "html/app/etc/env.php"


def test_images_on_a_mount_are_what_releases_share(tmp_path):
    page = CHECKOUT / "docs/quickstart/magento.md"
    commands = titled(page, "on each server: images on a mount")
    (tmp_path / "media").mkdir()
    (tmp_path / "media/a.jpg").write_text("a")
    commands = commands.replace("/var/www", str(tmp_path)).replace("/mnt/media", f"{tmp_path}/media")
    subprocess.run(["sh", "-euc", commands], check=True)
    assert (tmp_path / "shop/shared/pub/media/a.jpg").read_text() == "a"


# A server around what a page says of one: its own files instead of those of Debian's packages.
NGINX = """
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    fastcgi_temp_path {directory}/fastcgi;
    proxy_temp_path {directory}/proxy;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    server {{
        listen unix:{directory}/socket;
        {server}
        location ~ \\.php$ {{
            fastcgi_pass 127.0.0.1:9000;
            {location}
        }}
    }}
}}
"""


@pytest.mark.once
@pytest.mark.needs("nginx")
@pytest.mark.parametrize("page", [page for page in PAGES if "```nginx" in page.read_text()], ids=lambda page: page.stem)
def test_nginx_takes_what_a_page_says_of_it(page, tmp_path):
    lines = [line for language, _, text in blocks(page) if language == "nginx" for line in text.splitlines()]
    assert lines
    parts = {"location": [], "server": []}
    for line in lines:
        parts["location" if line.startswith("fastcgi_param") else "server"].append(line)
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(directory=tmp_path, **{name: "\n".join(some) for name, some in parts.items()}))
    command = ["nginx", "-t", "-q", "-c", config, "-e", tmp_path / "error.log", "-p", tmp_path]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    # It would notice.
    config.write_text(config.read_text().replace(lines[0], lines[0].rstrip(";")))
    assert subprocess.run(command, capture_output=True).returncode != 0


# Scripts and commands of the pages that a test runs, by their titles.
RUN = {
    "pack.sh",
    "deploy.sh",
    "rollback.sh",
    "on the server: configuration and images",
    "on each server: images on a mount",
}
# First words of those that no test runs: they need an application of others, or change a server.
UNRUN = {
    "composer": "installs packages from packagist.org",
    "php": "Magento's own commands, in a shop's repository",
    "sudo": "Magento's own commands, on a server",
    "nginx": "reloads a running server; what it would read is checked above",
}


def commands(page):
    """What a reader types, line by line, but for what tests run as a whole."""
    for language, title, text in blocks(page):
        if language == "sh" and title not in RUN:
            lines = text.replace("\\\n", " ").splitlines()
            yield from (line for line in lines if line and not line.startswith(("#", "set ")) and line != "./pack.sh")


def test_every_command_of_a_page_is_run_or_named_as_unrun():
    words = {line.split()[0] for page in PAGES for line in commands(page)}
    assert words - {"ansible-playbook"} == set(UNRUN)


@pytest.mark.once
@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=lambda page: page.stem)
def test_ansible_takes_every_command_line_of_a_page(page, ansible, collections, tmp_path):
    project = Project(ansible, tmp_path / "site", collections)
    write(page, project.directory)
    lines = [line for line in commands(page) if line.startswith("ansible-playbook ")]
    for line in lines:
        command = f"{line} --syntax-check"
        ran = subprocess.run(["sh", "-euc", command], cwd=project.directory, env=project.environment, capture_output=True, text=True)
        assert ran.returncode == 0, (command, ran.stdout + ran.stderr)
        # An inventory that is not there, or cannot be read.
        assert "WARNING" not in ran.stderr, (command, ran.stderr)
    assert lines


@pytest.mark.once
def test_a_static_site_is_deployed_by_the_commands_of_its_page(ansible, collections, tmp_path):
    page = CHECKOUT / "docs/quickstart/static.md"
    project = Project(ansible, tmp_path / "site", collections)
    write(page, project.directory)
    (project.directory / "public").mkdir()
    (project.directory / "public/index.html").write_text("hello")
    root = Root(tmp_path / "www/site")
    # On this machine, in a directory of the test's, as the user of the test.
    inventory = project.directory / "hosts.yml"
    inventory.write_text(
        inventory.read_text()
        .replace("/var/www", str(tmp_path / "www"))
        .replace("    ansible_user: deploy\n", "    ansible_connection: local\n")
    )
    ran = subprocess.run(["sh", "-eu", "deploy.sh"], cwd=project.directory, env=project.environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (live,) = root.releases()
    assert root.read("current/index.html") == "hello"
    assert f"web1.example.com: {live} (the first release)" in ran.stdout and f"{live} is live" in ran.stdout
    (project.directory / "public/index.html").write_text("hello again")
    for script, text in (("deploy.sh", "hello again"), ("rollback.sh", "hello")):
        ran = subprocess.run(["sh", "-eu", script], cwd=project.directory, env=project.environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert root.read("current/index.html") == text
    assert "the old prices" in str(root.history())
