"""What the quick starts tell a reader to write and to run: docs/quickstart, and the samples of docs/notifications.md."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from ansible_run import CHECKOUT, Project, wait_until
from reader import Reader, blocks, is_file
from server import Failed, Server, is_hidden, reason_against
from shop import requirements
from shop.artifacts import FIXTURE, replace
from shop.env import php

PAGES = sorted((CHECKOUT / "docs/quickstart").glob("*.md")) + [CHECKOUT / "docs/notifications.md"]
PLAYBOOKS = {"deploy.yml", "rollback.yml"}


def write(page, directory):
    """The files that the page shows, below the directory."""
    for language, title, text in blocks(page):
        if is_file(title):
            path = directory / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if language == "sh":
                path.chmod(0o755)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_sample_of_a_page_is_well_formed(page):
    assert page.read_text().count("```") == 2 * len(blocks(page)), "a fence that no language follows is not looked at"
    for title in {title for _, title, _ in blocks(page) if title}:
        # Not every reader sees a block's title, so the text before it has it too.
        paragraphs = re.findall(rf'\n\n((?:[^\n]+\n)+)\n```\w+ title="{re.escape(title)}"', page.read_text())
        assert paragraphs, title
        for paragraph in paragraphs:
            wanted = f"`{title}`" if is_file(title) else re.split("[,:]", title)[0]
            assert wanted.lower() in paragraph.lower(), (title, paragraph)
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


# Below: each page followed from its first command to its last, on a machine of its own (server.py, reader.py). A test has a
# line for each command of its page, so what a page gains without a test is noticed.


@pytest.fixture(scope="module")
def archive(ansible, tmp_path_factory):
    """The collection as it is released."""
    tools = {"PATH": f"{ansible.program.parent}:{os.environ['PATH']}"}
    command = [sys.executable, CHECKOUT / "scripts/archive", tmp_path_factory.mktemp("archive")]
    return Path(subprocess.run(command, env=os.environ | tools, capture_output=True, text=True, check=True).stdout.strip())


@pytest.fixture(scope="module")
def server(ansible, archive):
    running = Server(requirements.php_versions()[0], ansible.program.parent)
    try:
        running.start()
        shutil.copy(archive, running.path("/var/www/artifacts/"))
        yield running
    finally:
        running.stop()


@pytest.fixture
def follows(server):
    """A reader of the page of that name, in a directory of that name."""
    return lambda name: Reader(CHECKOUT / f"docs/quickstart/{name}.md", server, f"/home/reader/{name}")


# As Magento's own names it: config.php too.
IGNORED = "/app/etc/config.php\napp/etc/env.php\nvar\npub/media\nvendor\ngenerated\npub/static\nbuild\n"
COMPOSER = {
    "name": "example/shop",
    "description": "A shop",
    "license": "MIT",
    # Nothing is fetched: Magento's packages are those of the repository.
    "repositories": [{"type": "path", "url": "packages/*", "options": {"symlink": False}}, {"packagist.org": False}],
    "autoload": {"psr-4": {"Shop\\Generated\\": "generated/code/Shop/Generated/"}},
}


def package(name, **autoload):
    return json.dumps({"name": f"shop/{name}", "version": "1.0.0", "license": "MIT", "autoload": autoload})


def shop_repository(reader):
    """The test shop as section 1 of the page has it: its packages beside it, and no vendor, no config.php."""
    server, top = reader.server, reader.server.path(reader.directory)
    for name in ("app/bootstrap.php", "bin", "pub"):
        if (FIXTURE / name).is_dir():
            shutil.copytree(FIXTURE / name, top / name)
        else:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(FIXTURE / name, top / name)
    shutil.copytree(FIXTURE / "vendor/shop", top / "packages")
    spaces = {"module-sales": {"Shop\\Sales\\": ""}, "module-catalog": {"Shop\\Catalog\\": ""}, "module-store": {}}
    (top / "packages/framework/composer.json").write_text(
        package("framework", **{"psr-4": {"Shop\\Framework\\": "src/"}, "classmap": ["src/Magento.php"]})
    )
    for name, space in spaces.items():
        (top / f"packages/{name}/composer.json").write_text(package(name, **{"psr-4": space} if space else {}))
    wanted = {f"shop/{name}": "1.0.0" for name in ("framework", *spaces)}
    (top / "composer.json").write_text(json.dumps(COMPOSER | {"require": wanted}))
    (top / ".gitignore").write_text(IGNORED)
    (top / "version.php").write_text("<?php\n\nreturn 'one';\n")
    server.admin(f"chown -R reader: {reader.directory}")
    server.reader("git config --global user.name Reader && git config --global user.email reader@example.com")
    server.reader(
        "composer update --quiet --no-install && git init -q -b main && git add . && git commit -q -m 'The shop'"
        " && git init -q --bare ../origin.git && git remote add origin ../origin.git && git push -q -u origin main",
        cwd=reader.directory,
    )


def commit(reader, version):
    reader.write("version.php", f"<?php\n\nreturn '{version}';\n")
    reader.server.reader(f"git add . && git commit -q -m 'Version {version}'", cwd=reader.directory)


SHOP_SITE = """
    set $MAGE_ROOT /var/www/html;
    root $MAGE_ROOT/pub;
    index index.php;
    location / { try_files $uri $uri/ /index.php$is_args$args; }
    location ~ ^/(index|health_check)\\.php$ {
        fastcgi_pass unix:/run/php/php%s-fpm.sock;
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        fastcgi_param DOCUMENT_ROOT $document_root;
    }
"""


def changed(site, lines):
    """The site with a page's lines in the places of those that set the same."""
    for line in lines:
        begins = re.match(r"fastcgi_param \w+|set \S+|root", line)[0]
        site, count = re.subn(rf"{re.escape(begins)} .*", lambda _, line=line: line, site)
        assert count == 1, line
    return site


def visited(server, root, *paths):
    """What visitors get of the page / and these, once they get it from the release that is live. Returns the headers of / and texts."""
    live = server.admin(f"readlink -f {root}").strip().rpartition("/")[2]
    # A worker of nginx that is told to end answers what it has accepted.
    wait_until(lambda: server.get("/")[0][1].get("x-release") == live, f"{live} to answer")
    answers = server.get("/", *paths)
    assert {status for status, _, _ in answers} == {200}, answers
    return answers[0][1], *(text for _, _, text in answers[1:])


@pytest.mark.once
@pytest.mark.needs("server", "shop")
def test_a_shop_is_deployed_and_rolled_back_by_the_commands_of_its_page(follows, server):
    reader = follows("magento")
    shop_repository(reader)
    server.starts_a_shop(reader.directory)
    site = SHOP_SITE % server.php
    server.serve(site)
    server.admin("nginx -s reload")
    server.knows_the_host()

    def shows(version, place="/var/www/shop/current"):
        """Visitors get that version, with its images. Returns the release's name."""
        headers, _, image = visited(server, place, "/customer/account/login", "/media/catalog/a.jpg")
        assert (headers["x-version"], image) == (version, "an image")
        return headers["x-release"]

    shows("one", "/var/www/html")
    # 1. The repository
    assert "Done." in reader.type_on_the_server("sudo -u www-data php /var/www/html/bin/magento app:config:dump")
    # deploy may not read it.
    server.admin("chmod 0640 /var/www/html/app/etc/config.php")
    for command in ("mkdir -p app/etc", "ssh ", "git add --force app/etc/config.php", "git commit "):
        reader.type(command)
    # 2. Build
    for command in ("chmod +x build.sh pack.sh", "git add build.sh", "git commit "):
        reader.type(command)
    # 3. The playbook
    server.reader("rm -rf .ansible/collections")
    assert "was installed successfully" in reader.type("ansible-galaxy collection install ")
    for command in ("git add deploy", "git commit "):
        reader.type(command)
    # 4. The first deploy
    for command in ("install -d /var/www/shop", "cp -p ", "mv ", "chown "):
        reader.type_on_the_server(command)
    shows("one", "/var/www/html")
    assert "All modules are up to date." in reader.type_on_the_server("sudo -u www-data php /var/www/html/bin/magento setup:db:status")
    reader.type("./build.sh")
    assert "current: nothing → " in reader.type("ansible-playbook -i deploy/hosts.yml deploy/deploy.yml --check --diff")
    assert not server.path("/var/www/shop/current").is_symlink()
    reader.type("ansible-playbook -i deploy/hosts.yml deploy/deploy.yml")
    shows("one", "/var/www/html")
    assert reader.nginx == [] and reader.read_on() and len(reader.nginx) == 3
    server.serve(changed(site, reader.nginx))
    reader.type_on_the_server("nginx -t && systemctl reload nginx")
    shows("one")
    reader.type_on_the_server("sudo -u www-data php /var/www/html/bin/magento cron:remove")
    reader.type_on_the_server("sudo -u www-data php /var/www/shop/current/bin/magento cron:install")
    assert server.admin("sudo -u www-data crontab -l").count("MAGENTO START") == 1
    # "When all is well, /var/www/html can go."
    server.admin("rm -r /var/www/html && nginx -s reload")
    shows("one")
    # 5. Every deploy after that
    commit(reader, "two")
    reader.type("git push")
    secrets = {"COMPOSER_AUTH": "{}", "SSH_KEY": server.path("/etc/ssh/reader_key").read_text()}
    secrets |= {"KNOWN_HOSTS": server.path("/etc/ssh/known_hosts").read_text()}
    assert "TIMELINE" in reader.github(".github/workflows/deploy.yml", **secrets)
    shows("two")
    commit(reader, "three")
    reader.type("./build.sh")
    reader.type("ansible-playbook -i deploy/hosts.yml deploy/deploy.yml")
    before = shows("three")
    assert before in reader.type("ansible-playbook -i deploy/hosts.yml oxistrano.deploy.status")
    # The variable of the page, and a table for it.
    reader.read_on()
    assert reader.files["deploy/group_vars/shop.yml"] == "magento2_upgrade_mode: hold\n"
    notes = {"name": "Shop_Notes", "setup_version": None, "sequence": {0: "Shop_Catalog"}, "tables": {"note": {"id": "INT PRIMARY KEY"}}}
    reader.write("app/code/Shop/Notes/etc/module.php", f"<?php\nreturn {php(notes)};\n")
    replace(server.path(f"{reader.directory}/app/etc/config.php"), "'Shop_Catalog' => 1", "'Shop_Catalog' => 1,\n        'Shop_Notes' => 1")
    commit(reader, "four")
    server.reader("git push -q", cwd=reader.directory)
    said = reader.gitlab(".gitlab-ci.yml", SSH_KEY="/etc/ssh/reader_key", KNOWN_HOSTS="/etc/ssh/known_hosts")
    assert "TIMELINE" in said
    shows("four")
    # 6. Going back
    reader.type("ansible-playbook -i deploy/hosts.yml deploy/rollback.yml")
    assert shows("three") == before
    # Images on a mount
    for command in ("[ -d ", "cp -a "):
        reader.type_on_the_server(command)
    # Images that come in before the switch to the link.
    server.admin("echo new >late.jpg && echo old >early.jpg && touch -d yesterday early.jpg", cwd="/var/www/shop/shared/pub/media")
    server.admin("echo newer >/mnt/media/early.jpg")
    for command in ("mv -T ", "cp -a "):
        reader.type_on_the_server(command)
    shows("three")
    assert server.admin("cat catalog/a.jpg late.jpg early.jpg", cwd="/mnt/media") == "an imagenew\nnewer\n"
    assert server.admin("stat -c %U /mnt/media").strip() == "www-data"
    reader.has_finished()


APPLICATION_SITE = """
    root /var/www/html;
    index index.php;
    location / { try_files $uri /index.php$is_args$args; }
    location ~ ^/index\\.php$ {
        fastcgi_pass unix:/run/php/php%s-fpm.sock;
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        fastcgi_param DOCUMENT_ROOT $document_root;
    }
"""


class Application:
    """A reader who deploys an application of PHP by its page."""

    def __init__(self, reader, root, files):
        self.reader, self.server, self.root = reader, reader.server, root
        self.server.admin(f"rm -rf {root} /var/log/restarted /home/deploy/updated")
        self.server.knows_the_host()
        self.server.has_the_collection()
        shutil.copytree(files, self.server.path(reader.directory), dirs_exist_ok=True)
        self.becomes("one")

    def becomes(self, version):
        self.reader.write("version.php", f"<?php\n\nreturn '{version}';\n")

    def shows(self, version, *paths):
        headers, *texts = visited(self.server, f"{self.root}/current", *paths)
        assert headers["x-version"] == version
        return [headers["x-release"], *texts]

    def goes_live_twice_and_back(self, *commands, between="true"):
        """From the first deploy to the end of the page, and root's command between the deploys. Returns the names of both releases."""
        self.reader.type("ansible-playbook -i hosts.yml deploy.yml")
        assert self.reader.nginx == [] and self.reader.read_on() and len(self.reader.nginx) == 3
        self.server.serve(changed(APPLICATION_SITE % self.server.php, self.reader.nginx))
        self.reader.type_on_the_server("nginx -t && systemctl reload nginx")
        (one,) = self.shows("one")
        self.becomes("two")
        self.server.admin(between)
        self.reader.again(*commands, "ansible-playbook -i hosts.yml deploy.yml")
        (two,) = self.shows("two")
        self.reader.type("ansible-playbook -i hosts.yml oxistrano.deploy.rollback ")
        assert self.shows("one") == [one]
        self.reader.has_finished()
        return one, two

    def says(self, path):
        return self.server.path(path).read_text().split()


AS_WWW_DATA = "runuser -u www-data -- sh -euc"
AS_DEPLOY = "runuser -u deploy -- sh -euc"


@pytest.mark.once
@pytest.mark.needs("server", "symfony")
def test_symfony_is_deployed_and_rolled_back_by_the_commands_of_its_page(follows, server):
    reader = follows("symfony")
    application = Application(reader, "/var/www/app", FIXTURE.parent / "symfony")
    with pytest.raises(Failed, match="DebugBundle"):
        server.reader("composer install --no-dev --no-interaction", cwd=reader.directory)
    for command in ("APP_ENV=prod composer install ", "sh pack.sh"):
        reader.type(command)
    for command in ("install -d ", "setfacl ", "systemctl enable "):
        reader.type_on_the_server(command)
    server.write("/var/www/app/shared/.env.local", "APP_ENV=prod\nAPP_SECRET=secret\n")
    # The log is deploy's, whose migration comes first, then www-data's; the other writes into it.
    log = "/var/www/app/shared/var/log/prod.log"
    one, two = application.goes_live_twice_and_back("sh pack.sh", between=f"mv {log} {log}.1 && {AS_WWW_DATA} 'echo new >{log}'")
    first, second = application.says(f"{log}.1"), application.says(log)
    assert (first[:2], set(first[2:]), second[:2], set(second[2:])) == ([one, "asked"], {"asked"}, ["new", two], {"asked"})
    # The cache is the release's own, and whole before the switch.
    assert server.admin(f"stat -c %U /var/www/app/releases/{one}/var/cache/prod").strip() == "deploy"
    assert [path.rpartition("/")[2] for path in application.says("/var/log/restarted")] == [one, two, one]


@pytest.mark.once
@pytest.mark.needs("server", "laravel")
def test_laravel_is_deployed_and_rolled_back_by_the_commands_of_its_page(follows, server):
    reader = follows("laravel")
    application = Application(reader, "/var/www/app", FIXTURE.parent / "laravel")
    for command in ("composer install ", "sh pack.sh"):
        reader.type(command)
    for command in ("install -d ", "setfacl "):
        reader.type_on_the_server(command)
    # Every directory that a key of the cache can be in, as if deploy had been the first to use it, then as if www-data had.
    cache = "/var/www/app/shared/storage/framework/cache/data"
    fill = f"'cd {cache} && printf %02x\\\\n $(seq 0 255) | xargs mkdir'"
    server.admin(f"{AS_DEPLOY} {fill}")
    server.write("/var/www/app/shared/.env", f"APP_ENV=production\nAPP_KEY=base64:{'QUFB' * 10}QUE=\n")
    server.write("/var/www/app/shared/storage/app/shop.sqlite", "", "deploy:www-data")
    server.write("/var/www/app/shared/storage/app/public/a.jpg", "an image")
    one, two = application.goes_live_twice_and_back("sh pack.sh", between=f"rm -r {cache}/* && {AS_WWW_DATA} {fill}")
    for first, second in ((AS_DEPLOY, AS_WWW_DATA), (AS_WWW_DATA, AS_DEPLOY)):
        server.admin(f"{first} 'echo a >laravel.log' && {second} 'echo b >>laravel.log && rm laravel.log'", cwd=f"{cache}/../../../logs")
    # The table is there, the public link leads to what is shared, and the workers were told: all by the real artisan.
    answer, image = server.get("/", "/storage/a.jpg")
    assert (answer[2].strip(), image[2]) == ("<p>0 notes</p>", "an image")
    told = server.admin("grep -rhoE '^[0-9]{10}.*' /var/www/app/shared/storage/framework/cache/data | wc -l")
    # The visits, and when the workers were told last.
    assert int(told) == 2
    assert server.path(f"/var/www/app/releases/{one}/bootstrap/cache/config.php").is_file()


WORDPRESS = {
    "index.php": "<?php\nrequire __DIR__ . '/wp-load.php';\n",
    "wp-load.php": "<?php\nrequire __DIR__ . '/wp-config.php';\nheader('X-Version: ' . (require __DIR__ . '/version.php'));\n"
    "header('X-Release: ' . basename(__DIR__));\n",
}


@pytest.mark.once
@pytest.mark.needs("server")
def test_wordpress_is_deployed_and_rolled_back_by_the_commands_of_its_page(follows, server, tmp_path):
    (tmp_path / "blog").mkdir()
    for name, text in WORDPRESS.items():
        (tmp_path / "blog" / name).write_text(text)
    reader = follows("wordpress")
    application = Application(reader, "/var/www/blog", tmp_path / "blog")
    server.admin("rm -rf /var/www/html && mkdir /var/www/html")
    server.write("/var/www/html/wp-config.php", "<?php\ndefine('DISALLOW_FILE_MODS', true);\n")
    server.write("/var/www/html/wp-content/uploads/a.jpg", "an image", "www-data")
    reader.type("sh pack.sh")
    for command in ("install -d ", "install -o deploy ", "mv "):
        reader.type_on_the_server(command)
    assert server.path("/var/www/html").joinpath("wp-content").is_dir()
    assert server.admin("cat /var/www/html/wp-content/uploads/a.jpg") == "an image"
    one, two = application.goes_live_twice_and_back("sh pack.sh")
    assert server.get("/wp-content/uploads/a.jpg")[0][2] == "an image"
    assert application.says("/home/deploy/updated") == [one, two]


@pytest.mark.once
@pytest.mark.needs("server")
def test_a_static_site_is_deployed_and_rolled_back_by_the_commands_of_its_page(follows, server):
    reader = follows("static")
    server.admin("rm -rf /var/www/site")
    server.knows_the_host()
    server.has_the_collection()
    reader.type_on_the_server("install -d ")
    reader.write("public/index.html", "hello")
    reader.type("sh pack.sh")
    reader.type("ansible-playbook -i hosts.yml oxistrano.deploy.deploy ")
    (live,) = os.listdir(server.path("/var/www/site/releases"))
    said = reader.type("ansible-playbook -i hosts.yml oxistrano.deploy.status")
    assert f"{live} is live" in said
    assert reader.read_on() and len(reader.nginx) == 1
    server.serve(reader.nginx[0])
    reader.type_on_the_server("nginx -t && systemctl reload nginx")
    wait_until(lambda: server.get("/")[0][2] == "hello", "nginx to serve it")
    reader.write("public/index.html", "hello again")
    reader.again("sh pack.sh", "ansible-playbook -i hosts.yml oxistrano.deploy.deploy ")
    assert server.get("/")[0][2] == "hello again"
    reader.type("ansible-playbook -i hosts.yml oxistrano.deploy.rollback ")
    assert server.get("/")[0][2] == "hello"
    assert "the old prices" in server.path("/var/www/site/.oxistrano/history.jsonl").read_text()
    reader.has_finished()


@pytest.mark.once
@pytest.mark.needs("server")
def test_the_machine_of_these_tests_is_bounded(server, monkeypatch):
    """No command of a page can change this machine or last for ever."""
    with pytest.raises(Failed, match="Read-only file system"):
        server.admin("touch /of_a_test")
    monkeypatch.setattr("server.LONGEST", 0.2)
    with pytest.raises(Failed, match=r"has not ended after 0\.2 s"):
        server.admin("sleep 60")


def test_a_machine_without_php_fpm_or_with_users_of_that_name_is_told_so(ansible, monkeypatch):
    reason = functools.partial(reason_against.__wrapped__, ansible.program.parent)
    monkeypatch.setattr("os.getuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name, **_: name)
    monkeypatch.setattr("os.path.exists", lambda _: True)
    monkeypatch.setattr(requirements, "php_versions", list)
    assert reason() == "no php-fpm on this machine"
    monkeypatch.setattr(requirements, "php_versions", lambda: ["8.2"])
    monkeypatch.setattr("pwd.getpwnam", {"deploy": "of this machine"}.__getitem__)
    assert reason() == "this machine has a user deploy of its own"


def test_a_checkout_that_the_machine_of_these_tests_would_cover_is_noticed():
    mounts = "".join(f"1 0 0:1 / {place} rw - ext4 a rw\n" for place in ("/", "/home", "/home/me/work", "/srv"))
    places = {"/srv/a": False, "/opt/a": False, "/home/me/a": False, "/home/me/work/a": True}
    assert {place: is_hidden(Path(place), mounts) for place in places} == places


def test_each_page_with_commands_is_followed():
    """By a test that takes every one of them (Reader.has_finished)."""
    followed = set(re.findall(r'follows\("(\w+)"\)', Path(__file__).read_text()))
    assert followed == {page.stem for page in PAGES if any(language == "sh" for language, _, _ in blocks(page))}
