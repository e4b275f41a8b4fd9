"""Two artifacts have been deployed to a host that has next to nothing."""

import pytest


@pytest.mark.parametrize("program", ["python3", "python", "perl", "rsync", "tar", "unzip", "gzip", "xz", "bzip2", "zstd"])
def test_the_host_does_not_have(host, program):
    assert not host.exists(program)


def test_the_second_one_is_live(root):
    root.is_at_rest(live="2", releases=["1", "2"])
    assert root.run("%s/current/bin/shop", root.path) == "shop 2"
    assert root.run("%s/releases/1/bin/shop", root.path) == "shop 1"


def test_files_are_as_in_the_archive(root):
    # As with tar as root.
    assert root.status("current/pub/index.html") == "UNKNOWN:UNKNOWN 644 regular file"
    assert root.status("current/bin/shop") == "UNKNOWN:UNKNOWN 755 regular file"
    assert root.link("current/pub/home.html") == "index.html"
    assert root.link("current/var") == "../../shared/var"


def test_only_the_programs_stay_on_the_host(host, root, changed_paths):
    assert changed_paths(but=["/var/www"]) == []
    left = host.check_output("cd /root/.ansible && find . ! -path './oxistrano/*'").split()
    assert sorted(left) == [".", "./oxistrano"]
    assert host.file("/root/.ansible/oxistrano").mode == 0o700
