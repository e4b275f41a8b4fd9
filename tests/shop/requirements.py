"""The programs that the shop consists of, and the Debian packages that have them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
PROGRAMS = {
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mariadb": "mariadb-client",
    "nginx": "nginx",
    "zstd": "zstd",
    "tar": "tar",
}


# What some measurements and tests need in addition. Its package has its name.
MORE = ("haproxy",)


class Missing(RuntimeError):
    """What has to be installed for the shop to run."""


def find(program):
    """The path of a program, in sbin too. None if there is none."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def reason_against(program):
    """Why what needs this program of MORE cannot be done here; None if it can."""
    return None if find(program) else f"it needs a Debian package that is not here: apt install {program}"


def php_versions():
    """The PHP versions that have both a php-fpm and a command, the newest first."""
    names = {path.name for directory in SBIN.split(":") for path in Path(directory).glob("php-fpm*")}
    versions = [name.removeprefix("php-fpm") for name in names if re.fullmatch(r"php-fpm\d+\.\d+", name)]
    return sorted((v for v in versions if find(f"php{v}")), key=lambda v: [int(n) for n in v.split(".")], reverse=True)


def check(php=None):
    """The PHP version to use.

    Raises Missing, with all packages that are missing.
    """
    packages = {package for program, package in PROGRAMS.items() if not find(program)}
    versions = php_versions()
    if php is None and versions:
        php = versions[0]
    if php is None or php not in versions:
        # Debian's php-fpm brings opcache.
        packages |= {f"php{php or ''}-{part}" for part in ("fpm", "cli", "mysql")}
    else:
        loaded = subprocess.run([find(f"php{php}"), "-m"], capture_output=True, text=True).stdout.lower()
        for module, package in {"pdo_mysql": "mysql", "zend opcache": "opcache"}.items():
            if module not in loaded:
                packages.add(f"php{php}-{package}")
    if packages:
        wanted = " ".join(sorted(packages))
        raise Missing(f"the test shop needs Debian packages that are not here: apt install {wanted}")
    return php
