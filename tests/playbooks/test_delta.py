"""A host that has an earlier release gets what differs: as little as it can be, and never another release."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import subprocess
import tarfile
import time
import types
from pathlib import Path

import pytest
from ansible_run import CHECKOUT, ROLLBACK, Root, plugin_utils, wait_until

UNPACK = "oxistrano.deploy.release_unpack"
NOISE = os.urandom(700_000)


@pytest.fixture
def build(tmp_path):
    """Makes an archive of many files; what is named changes one of them."""

    def make(name, changed, times=0, **more):
        tree = tmp_path / f"tree-{name}"
        files = {f"app/code/{n}/file{n}.php": f"<?php // {n}\n" for n in range(200)}
        files |= {"app/changed.php": changed, "bin/tool": "#!/bin/sh\n", **more}
        for path, text in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        (tree / "noise").write_bytes(NOISE)
        (tree / "bin/tool").chmod(0o755)
        (tree / "link").symlink_to("bin/tool")
        for path in [*tree.rglob("*"), tree]:
            os.utime(path, (1_600_000_000 + times, 1_600_000_000 + times), follow_symlinks=False)
        archive = tmp_path / f"build/{name}"
        archive.parent.mkdir(exist_ok=True)
        subprocess.run(["tar", "-C", tree, "-caf", archive, "."], check=True)
        return archive

    return make


@pytest.fixture
def deploy(project, over_ssh):
    """Deploys with -vvv."""
    project.environment["ANSIBLE_INJECT_INVOCATION"] = "1"

    def run(archive, version, **variables):
        return project.deploy(archive, version, "-vvv", **variables)

    return run


def sent(result):
    """The bytes that went over, for each host; with those of the archive if it was not sent as a whole."""
    return [int(number) for number in re.findall(r'^    "sent": (\d+)', result.output, re.M)]


def whole(result):
    return re.findall(r"as a whole: (.*)", result.output)


@pytest.fixture
def manifests(project):
    return project.directory / "home/.ansible/oxistrano/manifests"


def wait_for_manifest(manifests):
    wait_until(lambda: manifests.exists() and any(p.name.endswith(".manifest") for p in manifests.iterdir()), "the manifest")


def same_as_unpacked(project, archive, version, tmp_path):
    """The release is what tar makes of the archive."""
    anew = tmp_path / f"anew-{version}"
    anew.mkdir(exist_ok=True)
    subprocess.run(["tar", "-C", anew, "-xpf", archive], check=True)

    def told(top):
        found = {}
        for path in sorted(top.rglob("*")):
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
            found[str(path.relative_to(top))] = (status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime), content)
        return found

    ours = told(project.root / "releases" / version)
    assert ours.pop("REVISION")[-1].strip() == version.encode()
    assert ours == told(anew)


def test_a_deploy_sends_what_changed(project, deploy, build, manifests, tmp_path):
    first = build("shop-1.tar.gz", "1")
    result = deploy(first, "1").good()
    assert sent(result) == [first.stat().st_size] and not whole(result)
    wait_for_manifest(manifests)
    for version, archive in {
        "2": build("shop-2.tar.gz", "2"),
        "3": build("shop-3.tar.gz", "3", times=100_000),
        "4": build("shop-4.tar.xz", "3", times=100_000),
        "5": build("shop-5.tar.zst", "5", new="new\n"),
    }.items():
        result = deploy(archive, version, ansistrano_keep_releases=2).good()
        assert sent(result)[0] < 4_000 and not whole(result), version
        assert re.search(r"unpacked \d+ files into .*, [\d.]+ k?B of [\d.]+ kB sent", result.output)
        same_as_unpacked(project, archive, version, tmp_path)
    # Only what leads to releases that are there.
    assert len(list((project.root / f".oxistrano/index-{os.getuid()}").iterdir())) == 3
    assert os.stat(manifests).st_mode & 0o777 == 0o700


def test_a_controller_without_manifests_asks_the_host(project, deploy, build, manifests, tmp_path):
    deploy(build("shop-1.tar.gz", "1"), "1").good()
    wait_for_manifest(manifests)
    shutil.rmtree(manifests)
    archive = build("shop-2.tar.gz", "2")
    result = deploy(archive, "2").good()
    assert sent(result)[0] < 12_000 and not whole(result)
    same_as_unpacked(project, archive, "2", tmp_path)
    # Now it is known.
    archive = build("shop-3.tar.gz", "3")
    assert sent(deploy(archive, "3").good())[0] < 4_000
    # One that was made where the archive was built is known to another controller as well.
    shutil.rmtree(manifests)
    module = CHECKOUT / "plugins/modules/archive_manifest"
    subprocess.run([module, "-"], input=json.dumps({"src": str(archive)}).encode(), check=True)
    assert Path(f"{archive}.manifest").exists()
    assert sent(deploy(build("shop-4.tar.gz", "4"), "4").good())[0] < 4_000


def test_what_somebody_changed_comes_anew(project, deploy, build, manifests, tmp_path):
    deploy(build("shop-1.tar.gz", "1"), "1").good()
    wait_for_manifest(manifests)
    live = project.root / "releases/1"
    (live / "app/code/3/file3.php").write_text("<?php // 4\n")
    (live / "app/code/5/file5.php").unlink()
    (live / "app/code/6/file6.php").chmod(0o600)
    archive = build("shop-2.tar.gz", "2")
    result = deploy(archive, "2").good()
    assert sent(result)[0] < 4_000 and not whole(result)
    same_as_unpacked(project, archive, "2", tmp_path)


def test_each_host_gets_what_it_lacks(project, deploy, build, manifests, tmp_path):
    roots = {name: Root(tmp_path / name) for name in ("a", "b", "c")}
    hosts = {name: {"ansistrano_deploy_to": str(root.path)} for name, root in roots.items()}
    ones = {version: build(f"shop-{version}.tar.gz", version) for version in ("1", "2", "3")}
    project.hosts = {"a": hosts["a"], "b": hosts["b"]}
    deploy(ones["1"], "1").good()
    wait_for_manifest(manifests)
    project.hosts = {"a": hosts["a"]}
    deploy(ones["2"], "2").good()
    project.hosts = hosts
    result = deploy(ones["3"], "3").good()
    few, fewer, all_of_it = sorted(sent(result))
    assert few < 4_000 and fewer < 4_000 and all_of_it == ones["3"].stat().st_size
    for root in roots.values():
        project.root = root
        same_as_unpacked(project, ones["3"], "3", tmp_path)


def test_what_an_earlier_release_has_is_not_sent_again(project, deploy, build, manifests, tmp_path):
    one, other = ({"app/large.css": os.urandom(1_200_000).hex()} for _ in range(2))
    deploy(build("shop-1.tar.gz", "1", **one), "1").good()
    wait_for_manifest(manifests)
    result = deploy(build("shop-2.tar.gz", "2", **other), "2").good()
    assert sent(result)[0] > 1_200_000 and not whole(result)
    back = build("shop-3.tar.gz", "3", **one)
    result = deploy(back, "3").good()
    assert sent(result)[0] < 4_000 and not whole(result)
    same_as_unpacked(project, back, "3", tmp_path)
    # Nor is what no release has made twice.
    result = deploy(build("shop-new.tar.gz", "new", **{"app/large.css": os.urandom(1_200_000).hex()}), "new").good()
    assert "nothing is left out" in result.output and "have little of it" in result.output
    # It is not there after all.
    (project.root / "releases/2/app/large.css").unlink()
    back = build("shop-4.tar.gz", "4", **other)
    result = deploy(back, "4").good()
    assert sent(result)[0] > 1_200_000 and not whole(result)
    same_as_unpacked(project, back, "4", tmp_path)


def test_what_a_host_lacks_is_made_while_it_is_asked(project, deploy, build, manifests, tmp_path):
    begun = "was begun already"
    assert begun not in deploy(build("shop-1.tar.gz", "1"), "1").good().output
    wait_for_manifest(manifests)
    for version in ("2", "3"):
        assert begun in deploy(build(f"shop-{version}.tar.gz", version), version).good().output
    # Not by this controller, say: it has another one than is noted.
    project.run(ROLLBACK).good()
    archive = build("shop-4.tar.gz", "4")
    result = deploy(archive, "4").good()
    assert begun not in result.output and sent(result)[0] < 4_000 and not whole(result)
    same_as_unpacked(project, archive, "4", tmp_path)
    (noted,) = manifests.glob("has-*")
    noted.write_text("rubbish")
    archive = build("shop-5.tar.gz", "5")
    result = deploy(archive, "5").good()
    assert begun not in result.output and sent(result)[0] < 4_000
    same_as_unpacked(project, archive, "5", tmp_path)
    assert begun in deploy(archive, "6").good().output


def test_what_is_shared_is_not_taken_for_a_file_of_the_release(project, deploy, build, manifests, tmp_path):
    """The same file is in the archive and where the shared path leads."""
    same = {"pub/media/.htaccess": "deny from all\n"}
    (project.root / "shared/pub/media").mkdir(parents=True)
    (project.root / "shared/pub/media/.htaccess").write_text(same["pub/media/.htaccess"])
    for version in ("1", "2", "3", "4"):
        archive = build(f"shop-{version}.tar.gz", version, **same)
        result = deploy(archive, version, ansistrano_keep_releases=1, ansistrano_shared_paths=["pub/media"]).good()
        if version == "1":
            wait_for_manifest(manifests)
        assert not whole(result), version
    assert (project.root / "releases/.oxistrano-spare/pub/media").is_symlink()
    assert sent(result)[0] < 4_000


@pytest.mark.parametrize("damage", ["index", "manifests", "index is a link"])
def test_what_is_damaged_costs_bytes_and_nothing_else(project, deploy, build, manifests, tmp_path, damage):
    deploy(build("shop-1.tar.gz", "1"), "1").good()
    wait_for_manifest(manifests)
    deploy(build("shop-2.tar.gz", "2"), "2").good()
    index = project.root / f".oxistrano/index-{os.getuid()}"
    if damage == "index":
        for path in index.iterdir():
            content = bytearray(path.read_bytes())
            content[-100] ^= 1
            path.write_bytes(content)
    elif damage == "manifests":
        for path in manifests.iterdir():
            path.write_bytes(path.read_bytes()[:-10])
    else:
        index.rename(tmp_path / "index")
        index.symlink_to(tmp_path / "index")
    archive = build("shop-3.tar.gz", "3")
    result = deploy(archive, "3").good()
    same_as_unpacked(project, archive, "3", tmp_path)
    assert bool(whole(result)) == (damage == "index")
    archive = build("shop-4.tar.gz", "4")
    result = deploy(archive, "4").good()
    assert sent(result)[0] < 12_000, "the next one is as always"


def test_a_small_archive_a_new_one_and_one_of_the_host_go_as_they_are(project, deploy, build, artifacts, tmp_path):
    deploy(build("shop-1.tar.gz", "1"), "1").good()
    small = artifacts.archive("9")
    assert sent(deploy(small, "2").good()) == [small.stat().st_size]
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as tar:
        (tmp_path / "other").write_bytes(os.urandom(400_000))
        tar.add(tmp_path / "other", "other")
    result = deploy(other, "3").good()
    assert "nearly all of it is new" in whole(result)[0]
    project.variables["ansible_connection"] = "local"
    assert sent(deploy(build("shop-4.tar.gz", "4"), "4").good()) == [0]


@pytest.fixture
def delta():
    with plugin_utils("program", "delta") as found:
        yield found.delta


def manifest_of(archive):
    """One without an entry."""
    return struct.pack("<8sBBI32s9Q", b"OXIMAN1\n", 0, 32, 0, bytes([archive]) * 32, *[0] * 9)


def another_manifest(digested):
    """One with a digest of its own."""
    return struct.pack("<8sBBI32s9Q", b"OXIMAN1\n", 0, 32, 0, bytes(32), *[0] * 8, 1) + bytes([digested])


@pytest.mark.once
def test_the_last_manifests_are_kept_in_a_directory_of_this_users(delta, tmp_path):
    kept = delta.Manifests(str(tmp_path / "place/manifests"))
    assert kept.usable()
    for n in range(delta.KEPT + 5):
        content = manifest_of(n)
        kept.keep(content, delta.identify(content))
        used = time.time() - 1000 + n
        os.utime(tmp_path / f"place/manifests/{'-'.join(delta.identify(content))}", (used, used))
    names = {path.name[:2] for path in (tmp_path / "place/manifests").iterdir()}
    assert len(names) == delta.KEPT and "00" not in names and f"{delta.KEPT + 4:02x}" in names
    digest = delta.identify(manifest_of(7))[1]
    assert kept.digests() == [digest], "they all say the same"
    assert Path(kept.bring(str(tmp_path / "brought"), archive="07" * 32)).read_bytes() == manifest_of(7)
    assert kept.bring(str(tmp_path / "none"), archive="00" * 32) is None
    (tmp_path / "place/manifests").chmod(0o755)
    assert not kept.usable()


@pytest.mark.once
def test_what_is_kept_has_a_limited_size_and_age_and_no_rubbish(delta, tmp_path, monkeypatch):
    place = tmp_path / "manifests"
    kept = delta.Manifests(str(place))
    assert kept.usable()
    names = []
    for n in range(4):
        names.append("-".join(delta.identify(manifest_of(n + 1))))
        kept.keep(manifest_of(n + 1), delta.identify(manifest_of(n + 1)))
    now = time.time()
    for n, name in enumerate(names):
        os.utime(place / name, (now - 100 + n,) * 2)
    os.utime(place / names[1], (now - delta.KEPT_SECONDS - 1,) * 2)
    rubbish, fresh = place / "cut.manifest", place / "tmpfresh"
    rubbish.write_bytes(b"no manifest")
    fresh.write_bytes(b"another process is about to rename it")
    os.utime(rubbish, (now - delta.RUBBISH_SECONDS - 1,) * 2)
    kept.keep(manifest_of(5), delta.identify(manifest_of(5)))
    names.append("-".join(delta.identify(manifest_of(5))))
    assert sorted(path.name for path in place.iterdir()) == sorted([names[0], *names[2:], fresh.name])
    size = (place / names[4]).stat().st_size
    monkeypatch.setattr(delta, "KEPT_BYTES", 2 * size + 10)
    kept.keep(manifest_of(5), delta.identify(manifest_of(5)))
    assert sorted(path.name for path in place.iterdir()) == sorted([names[3], names[4], fresh.name])
    monkeypatch.setattr(delta, "KEPT_BYTES", 1)
    kept.keep(manifest_of(5), delta.identify(manifest_of(5)))
    assert kept.bring(str(tmp_path / "brought"), archive="05" * 32), "the last one stays, however large it is"


@pytest.mark.once
def test_a_manifest_beside_the_archive_is_taken_in_if_it_is_one(delta, tmp_path):
    kept = delta.Manifests(str(tmp_path / "manifests"))
    assert kept.usable()
    beside = tmp_path / "build"
    beside.mkdir()
    (beside / "a.manifest").write_bytes(manifest_of(1))
    (beside / "cut.manifest").write_bytes(manifest_of(2)[:-1])
    (beside / "other.manifest").write_bytes(b"no manifest")
    scratch = tmp_path / "run"
    scratch.mkdir()
    kept.take_in(str(beside), str(scratch))
    kept.take_in(str(tmp_path / "nowhere"), str(scratch))
    assert kept.digests() == [delta.identify(manifest_of(1))[1]]
    # Whoever can write beside an archive may say anything of it: what is in a release, its own archive says.
    assert kept.bring(str(tmp_path / "brought"), archive="01" * 32) is None
    assert kept.bring(str(tmp_path / "brought"), digest=kept.digests()[0])
    kept.keep(manifest_of(1), delta.identify(manifest_of(1)))
    assert [path.name[:64] for path in (tmp_path / "manifests").iterdir()] == ["01" * 32]
    assert kept.bring(str(tmp_path / "brought"), archive="01" * 32)


@pytest.mark.once
def test_manifests_beside_the_archive_are_read_once_in_a_run(delta, tmp_path):
    kept = delta.Manifests(str(tmp_path / "manifests"))
    assert kept.usable()
    (tmp_path / "build").mkdir()
    (tmp_path / "build/1.manifest").write_bytes(another_manifest(1))
    known = []
    for run, beside in {"a": 2, "b": 3}.items():
        (tmp_path / run).mkdir()
        # Those that a process in the background has made are taken in for each host.
        for ours in (10 * beside, 10 * beside + 1):
            kept.take_in(str(tmp_path / "build"), str(tmp_path / run))
            (tmp_path / f"build/{beside}.manifest").write_bytes(another_manifest(beside))
            (tmp_path / f"manifests/{ours}.manifest").write_bytes(another_manifest(ours))
        known.append(len(kept.digests()))
    assert known == [2, 5]


@pytest.mark.once
def test_what_is_made_ahead_in_vain_is_not_taken_for_a_failure(tmp_path, monkeypatch):
    source = types.SimpleNamespace(path="a.tar", readable="a.tar", size=1 << 20)
    ours = tmp_path / "program"
    ours.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/began\nexec sleep 100\n")
    ours.chmod(0o755)
    scratch = tmp_path / "run"
    scratch.mkdir()
    with plugin_utils("core_versions", "program", "delta", "ahead") as found:
        monkeypatch.setattr(found.delta, "Manifests", lambda: types.SimpleNamespace(bring=lambda path, **_: path))
        ahead = found.ahead.Ahead(str(ours), source, "a" * 64, str(scratch), "b")
        wait_until(lambda: (tmp_path / "began").exists() and (tmp_path / "began").read_text(), "the program to run")
        ahead.stop()
        ahead.stop()
        assert [path.suffix for path in scratch.iterdir()] == [".lock"]
        # Another process says what comes of it.
        with pytest.raises(found.delta.Useless, match="it cannot be read"):
            found.delta.make(lambda *_: {"failed": True, "msg": "it cannot be read"}, source, "a" * 64, str(scratch), base="b")


@pytest.mark.once
def test_manifests_that_cannot_be_changed_can_be_used(delta, tmp_path, monkeypatch):
    kept = delta.Manifests(str(tmp_path / "manifests"))
    assert kept.usable()
    kept.keep(manifest_of(1), delta.identify(manifest_of(1)))

    def read_only(*_):
        raise OSError(errno.EROFS, "read only")

    monkeypatch.setattr(delta.os, "utime", read_only)
    assert kept.bring(str(tmp_path / "brought"), archive="01" * 32)
    # Another process of the same run was faster.
    monkeypatch.undo()
    (tmp_path / "manifests/2.manifest").write_bytes(manifest_of(2))
    unlink = os.unlink
    monkeypatch.setattr(delta.os, "unlink", lambda path: (unlink(path), unlink(path)))
    kept.take_in(str(tmp_path / "nowhere"), str(tmp_path))
    assert len(kept.digests()) == 1 and kept.bring(str(tmp_path / "brought"), archive="02" * 32)


def test_much_that_is_new_is_not_compressed_to_be_thrown_away(delta, tmp_path, monkeypatch):
    """A sample tells; it took 15 s for a release of Magento of which all files were others."""
    contents = tmp_path / "contents"
    size = delta.MUCH + delta.BLOCK

    def estimated(piece):
        contents.write_bytes(piece * (size // len(piece)))
        return delta._estimate(contents) / size

    assert 0.99 < estimated(os.urandom(delta.BLOCK)) < 1.01
    # Half of each block.
    assert 0.49 < estimated(os.urandom(delta.BLOCK // 2) + bytes(delta.BLOCK // 2)) < 0.52
    assert estimated(bytes(delta.BLOCK)) < 0.01
    contents.write_bytes(os.urandom(delta.BLOCK))
    assert delta._estimate(contents) == 0
    contents.unlink()

    def run(_module, arguments):
        Path(arguments["contents"]).write_bytes(os.urandom(size))
        Path(f"{arguments['contents']}.message").write_bytes(b"")
        return {"digest": "d", "archive": "a"}

    monkeypatch.setattr(delta, "Manifests", lambda: types.SimpleNamespace(bring=lambda path, **_: path))
    monkeypatch.setattr(delta, "_compress", lambda *_: pytest.fail("it was compressed"))
    source = types.SimpleNamespace(path="a.tar", readable="a.tar", size=size)
    with pytest.raises(delta.Useless, match="nearly all of it is new"):
        delta.make(run, source, "a" * 64, str(tmp_path), base="b")
    assert {name.rpartition(".")[2] for name in os.listdir(tmp_path)} == {"json", "lock"}
