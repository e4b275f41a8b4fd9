"""One web host: a deploy root, a php-fpm and an nginx of its own, on this machine."""

from __future__ import annotations

import os
import subprocess
import time

from .fpm import Fpm
from .nginx import Nginx
from .process import WEB_USER, is_root

# var itself is the release's own, so that each release has its own maintenance flag.
SHARED_PATHS = ("pub/media", "var/log", "var/report")
SHARED_FILES = ("app/etc/env.php",)


class Host:
    def __init__(self, directory, name, php, php_command, document_root, pool, retry_after=False):
        self.name, self.directory = name, directory / name
        self.root = self.directory / "root"
        self.php_command = php_command
        self.fpm = Fpm(self.directory / "fpm", php, pool)
        self.nginx = Nginx.web(self.directory / "nginx", self.root, self.fpm.socket, document_root, retry_after)

    @property
    def url(self):
        return self.nginx.url

    @property
    def env_file(self):
        return self.root / "shared/app/etc/env.php"

    def start(self):
        for directory in (self.root / "releases", self.env_file.parent):
            directory.mkdir(parents=True)
        self.own(self.root)
        self.fpm.start()
        self.nginx.start()

    def stop(self):
        self.nginx.stop()
        self.fpm.stop()

    def write_env(self, text):
        making = self.env_file.with_suffix(".new")
        making.write_text(text)
        making.chmod(0o660)
        self.own(making)
        making.replace(self.env_file)

    def deploy(self, archive, name, shared_paths=SHARED_PATHS):
        """Unpacks, links, switches: what a deploy comes to, without any of its care."""
        release = self.root / "releases" / name
        release.mkdir(parents=True)
        subprocess.run(["tar", "-C", release, "--no-same-owner", "-xf", archive], check=True)
        for path in (*shared_paths, *SHARED_FILES):
            target, link = self.root / "shared" / path, release / path
            (target if path in shared_paths else target.parent).mkdir(parents=True, exist_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_dir() and not link.is_symlink():
                subprocess.run(["rm", "-rf", link], check=True)
            link.symlink_to(os.path.relpath(target, link.parent))
        (release / "REVISION").write_text(f"{name}\n")
        self.own(self.root)
        self.switch(name)
        return release

    def switch(self, name):
        making = self.root / f".current.{time.monotonic_ns()}"
        making.symlink_to(f"./releases/{name}")
        making.replace(self.root / "current")

    def live(self):
        """Name of the release that current leads to; None without one."""
        current = self.root / "current"
        return os.path.basename(os.readlink(current)) if current.is_symlink() else None

    def magento(self, *arguments, release=None, user=WEB_USER, stdin=subprocess.DEVNULL, **environment):
        """Runs bin/magento of the live release, or of the one at the path `release`."""
        command = [self.php_command, (release or self.root / "current") / "bin/magento", *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=stdin,
            cwd="/",
            env=os.environ | environment,
            # Root's own programs, as su would be, without a login.
            **({"user": user, "group": user, "extra_groups": []} if is_root() and user != "root" else {}),
        )

    def own(self, path):
        """Gives all that is there to the web user."""
        if is_root():
            subprocess.run(["chown", "-Rh", f"{WEB_USER}:{WEB_USER}", path], check=True)
