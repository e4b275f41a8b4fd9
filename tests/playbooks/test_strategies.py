"""Each ansistrano_deploy_via that needs no network but this machine's own."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from ansible_run import HERE, ROLE

AUTHOR = ["-c", "user.name=Alice", "-c", "user.email=alice@example.org", "-c", "protocol.file.allow=always"]


@pytest.fixture
def deployed(project):
    """Deploys in check mode to a fresh root, which changes nothing, and then in truth."""

    def deploy(via, **variables):
        project.with_python().variables |= {
            "ansistrano_deploy_via": via,
            "ansistrano_shared_paths": ["var"],
            "ansistrano_release_version": "1",
        } | variables
        check = project.run(ROLE, "--check", "--diff").good()
        assert check.recap["web"]["failed"] == 0
        assert not project.root.path.exists()
        project.run(ROLE).good()
        project.root.is_at_rest(live="1", releases=["1"])
        return project.root

    return deploy


def is_shop(root, version="1", revision="1"):
    """The release holds the whole sample application."""
    assert root.read("current/index.php") == f"<?php echo 'shop {version}';"
    assert root.read("current/pub/media/old.jpg") == "from the build machine"
    assert os.readlink(root / "current/var") == "../../shared/var"
    assert os.access(root / "current/tool", os.X_OK)
    assert root.read("current/REVISION") == revision


def test_copy(deployed, artifacts):
    root = deployed("copy", ansistrano_deploy_from=f"{artifacts.tree('1')}/")
    assert root.read("current/index.php") == "<?php echo 'shop 1';"
    assert os.readlink(root / "current/var") == "../../shared/var"


@pytest.mark.parametrize("kind", ["tar.gz", "zip", pytest.param("tar.zst", marks=pytest.mark.needs("zstd"))])
def test_copy_unarchive(deployed, artifacts, kind):
    root = deployed("copy_unarchive", ansistrano_deploy_from=str(artifacts.archive("1", kind)))
    is_shop(root)


def test_download(deployed, artifacts, web):
    archive = artifacts.archive("1")
    root = deployed("download", ansistrano_get_url=f"{web}/{archive.name}")
    assert (root / "current" / archive.name).read_bytes() == archive.read_bytes()


def test_download_unarchive(deployed, artifacts, web):
    archive = artifacts.archive("1")
    root = deployed("download_unarchive", ansistrano_get_url=f"{web}/{archive.name}")
    is_shop(root)
    assert not (root / "current" / archive.name).exists()


def test_a_download_that_is_not_there_fails_and_nothing_goes_live(project, seed, web):
    project.seed(seed).with_python()
    project.run(ROLE, ansistrano_deploy_via="download_unarchive", ansistrano_get_url=f"{web}/no.tgz").bad("404", "Release 2 is live")
    project.root.is_at_rest(live="2", releases=["1", "2"])


@pytest.fixture
def repository(artifacts, tmp_path):
    """A Git repository with a submodule; its working tree."""

    def git(directory, *arguments):
        told = subprocess.run(["git", *AUTHOR, *arguments], cwd=directory, check=True, capture_output=True, text=True)
        return told.stdout.strip()

    def new(path, tree):
        subprocess.run(["cp", "-a", tree, path], check=True)
        git(path, "init", "-q", "-b", "main")
        git(path, "add", "-A")
        git(path, "commit", "-q", "-m", "first")
        return path

    plugin = tmp_path / "plugin-tree"
    plugin.mkdir()
    (plugin / "plugin.php").write_text("<?php // plugin\n")
    module = new(tmp_path / "plugin", plugin)
    path = new(tmp_path / "repository", artifacts.tree("1"))
    git(path, "submodule", "--quiet", "add", str(module), "app/plugin")
    git(path, "commit", "-q", "-m", "with a submodule")
    path.joinpath("untracked").write_text("not released")
    return path, git(path, "rev-parse", "HEAD")


@pytest.fixture
def git_variables(project, tmp_path):
    # git refuses submodules of this machine since CVE-2022-39253 unless told otherwise.
    (project.directory / "home/.gitconfig").write_text('[protocol "file"]\n\tallow = always\n[safe]\n\tdirectory = *\n')
    return {"ansistrano_git_branch": "main"}


def test_git_with_a_submodule(deployed, repository, git_variables):
    path, commit = repository
    root = deployed("git", ansistrano_git_repo=f"file://{path}", **git_variables)
    is_shop(root, revision=commit)
    assert root.read("current/app/plugin/plugin.php") == "<?php // plugin"
    assert not (root / "current/untracked").exists()
    assert not list((root / "current").rglob(".git"))


def test_git_with_a_directory_of_the_repository(deployed, repository, git_variables):
    path, commit = repository
    root = deployed("git", ansistrano_git_repo=f"file://{path}", ansistrano_git_repo_tree="/app/", **git_variables)
    assert sorted(os.listdir(root / "current/")) == ["REVISION", "etc", "plugin", "var"]
    assert root.read("current/plugin/plugin.php") == "<?php // plugin"
    assert root.read("current/REVISION") == commit


SPARE = "releases/.oxistrano-spare"


def builds_on_the_spare(project, change, file="app/etc/config.php"):
    """After the first deploy: `change` changes index.php at its source. The third release is made of the first one."""
    root = project.root
    project.variables["ansistrano_keep_releases"] = 1
    first = (root / "releases/1" / file).stat().st_ino
    change("2")
    project.run(ROLE, ansistrano_release_version="2").good()
    root.is_at_rest(live="2", releases=["2"])
    spare = root / SPARE
    assert (spare / file).stat().st_ino == first
    # Somebody has worked in it, and left no trace in size and time.
    changed = spare / "pub/media/old.jpg"
    times = changed.stat()
    changed.write_text(changed.read_text().upper())
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    (spare / "left.php").write_text("by hand")
    change("3")
    project.run(ROLE, ansistrano_release_version="3").good()
    root.is_at_rest(live="3", releases=["3"])
    assert root.read("current/index.php") == "<?php echo 'shop 3';"
    assert root.read("current/pub/media/old.jpg") == "from the build machine"
    assert not (root / "current/left.php").exists()
    assert (root / "releases/3" / file).stat().st_ino == first
    # The one before it is raw material now.
    assert (spare / "index.php").read_text() == "<?php echo 'shop 2';"
    project.run(ROLE, ansistrano_release_version="4", oxistrano_spare=False).good()
    assert not spare.exists()


def keeps_no_spare(project):
    project.run(ROLE, ansistrano_release_version="2", ansistrano_keep_releases=1).good()
    project.root.is_at_rest(live="2", releases=["2"])
    assert not (project.root / SPARE).exists()


def test_git_builds_on_the_spare(deployed, project, repository, git_variables):
    path, _ = repository
    deployed("git", ansistrano_git_repo=f"file://{path}", **git_variables)

    def change(version):
        (path / "index.php").write_text(f"<?php echo 'shop {version}';")
        subprocess.run(["git", *AUTHOR, "commit", "-q", "-a", "-m", version], cwd=path, check=True)

    builds_on_the_spare(project, change)


@pytest.mark.needs("rsync", "ansible.posix")
def test_rsync_builds_on_the_spare(deployed, project, artifacts, tmp_path):
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", artifacts.tree("1"), tree], check=True)
    deployed("rsync", ansistrano_deploy_from=f"{tree}/")

    def change(version):
        (tree / "index.php").write_text(f"<?php echo 'shop {version}';")
        # The time of a file in the same second says nothing to rsync.
        os.utime(tree / "index.php", (int(version), int(version)))

    builds_on_the_spare(project, change)


@pytest.mark.needs("svn", "svnadmin")
def test_svn(deployed, project, artifacts, tmp_path):
    subprocess.run(["svnadmin", "create", tmp_path / "svn"], check=True)
    address = f"file://{tmp_path}/svn"
    subprocess.run(["svn", "-q", "import", "-m", "first", artifacts.tree("1"), f"{address}/trunk"], check=True)
    root = deployed("svn", ansistrano_svn_repo=address)
    is_shop(root)
    assert not list((root / "current").rglob(".svn"))
    keeps_no_spare(project)


@pytest.mark.needs("hg", "community.general")
def test_hg(deployed, project, artifacts, tmp_path):
    path = tmp_path / "hg"
    subprocess.run(["cp", "-a", artifacts.tree("1"), path], check=True)
    for command in (["init"], ["commit", "-q", "-A", "-u", "Alice", "-m", "first"]):
        subprocess.run(["hg", *command], cwd=path, check=True, env=os.environ | {"HGPLAIN": "1"})
    root = deployed("hg", ansistrano_hg_repo=str(path))
    is_shop(root)
    assert not (root / "current/.hg").exists()
    keeps_no_spare(project)


@pytest.mark.needs("rsync", "ansible.posix")
def test_rsync_twice_with_the_shared_copy_as_both_generations_name_it(deployed, project, artifacts, tmp_path):
    hook = tmp_path / "hook.yml"
    hook.write_text(
        json.dumps(
            [
                {
                    "ansible.builtin.debug": {
                        "msg": "the hook sees {{ ansistrano_shared_rsync_copy_path.stdout }} and {{ ansistrano_shared_rsync_copy_path }}"
                    }
                }
            ]
        )
    )
    root = deployed(
        "rsync",
        ansistrano_deploy_from=f"{artifacts.tree('1')}/",
        ansistrano_after_update_code_tasks_file=str(hook),
    )
    is_shop(root)
    # The second one starts from the copy of the first; what is gone there goes here.
    project.variables |= {"ansistrano_deploy_from": f"{artifacts.tree('2')}/", "ansistrano_release_version": "2"}
    copy = root / "shared/.shared-copy"
    (copy / "left.php").write_text("from a build before")
    result = project.run(ROLE).good()
    assert f"the hook sees {copy} and {copy}" in result.text
    root.is_at_rest(live="2", releases=["1", "2"])
    is_shop(root, "2", "2")
    assert not (root / "current/left.php").exists()
    # The releases do not change with it.
    assert root.read("releases/1/index.php") == "<?php echo 'shop 1';"


@pytest.mark.needs("rsync", "ansible.posix")
def test_rsync_over_ssh(deployed, project, artifacts, sshd):
    project.variables |= sshd.variables() | {"ansistrano_rsync_use_ssh_args": True}
    root = deployed("rsync", ansistrano_deploy_from=f"{artifacts.tree('1')}/")
    is_shop(root)


@pytest.mark.needs("rsync", "ansible.posix")
def test_rsync_direct(deployed, artifacts):
    root = deployed("rsync_direct", ansistrano_deploy_from=f"{artifacts.tree('1')}/")
    is_shop(root)


STORED = {
    "s3": {
        "ansistrano_s3_bucket": "builds",
        "ansistrano_s3_object": "shop/shop-1.tar.gz",
        "ansistrano_s3_region": "eu-central-1",
        "ansistrano_s3_aws_access_key": "key",
        "ansistrano_s3_aws_secret_key": "secret",
    },
    "gcs": {
        "ansistrano_gcs_bucket": "builds",
        "ansistrano_gcs_object": "shop/shop-1.tar.gz",
        "ansistrano_gcs_region": "eu-central-1",
        "ansistrano_gcs_access_key": "key",
        "ansistrano_gcs_secret_key": "secret",
    },
}


@pytest.mark.parametrize(
    "via, more, expected",
    [
        ("s3", {}, {}),
        ("s3_unarchive", {"ansistrano_s3_ignore_nonexistent_bucket": True}, {"ignore_nonexistent_bucket": True}),
        (
            "s3",
            {"ansistrano_s3_rgw": True, "ansistrano_s3_url": "http://ceph:7480", "ansistrano_s3_encrypt": True},
            {"endpoint_url": "http://ceph:7480", "ceph": True, "encrypt": True},
        ),
        ("gcs", {}, {"endpoint_url": "https://storage.googleapis.com"}),
        ("gcs_unarchive", {"oxistrano_gcs_url": "http://127.0.0.1:1"}, {"endpoint_url": "http://127.0.0.1:1"}),
    ],
)
def test_an_object_store_is_asked_for_the_object_with_the_right_arguments(deployed, project, artifacts, via, more, expected):
    """With a stand-in for the module, that writes down what it is called with."""
    project.environment["ANSIBLE_COLLECTIONS_PATH"] = f"{HERE / 'collections'}:{project.environment['ANSIBLE_COLLECTIONS_PATH']}"
    told = project.directory / "told.json"
    project.environment |= {"STAND_IN_LOG": str(told), "STAND_IN_OBJECT": str(artifacts.archive("1"))}
    root = deployed(via, **STORED[via.removesuffix("_unarchive")], **more)
    got = json.loads(told.read_text())
    assert os.path.dirname(got.pop("dest")) == str(root / "releases/.oxistrano-staging")
    assert got == {
        "bucket": "builds",
        "object": "shop/shop-1.tar.gz",
        "mode": "get",
        "region": "eu-central-1",
        "access_key": "key",
        "secret_key": "secret",
        **expected,
    }
    if via.endswith("_unarchive"):
        is_shop(root)
    else:
        assert (root / "current/shop-1.tar.gz").read_bytes() == artifacts.archive("1").read_bytes()


@pytest.fixture(scope="session")
def store(artifacts):
    """The address of a server that speaks S3 and holds the artifact."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    client = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="eu-central-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="builds", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    client.upload_file(str(artifacts.archive("1")), "builds", "shop/shop-1.tar.gz")
    yield address
    server.stop()


@pytest.mark.needs("moto", "amazon.aws")
@pytest.mark.parametrize("via", ["s3", "s3_unarchive", "gcs", "gcs_unarchive"])
def test_an_object_store_that_speaks_s3_gives_the_object(deployed, artifacts, store, via):
    service = via.removesuffix("_unarchive")
    address = {"ansistrano_s3_rgw": True, "ansistrano_s3_url": store} if service == "s3" else {"oxistrano_gcs_url": store}
    root = deployed(via, **STORED[service], **address)
    if via.endswith("_unarchive"):
        is_shop(root)
    else:
        assert (root / "current/shop-1.tar.gz").read_bytes() == artifacts.archive("1").read_bytes()


def test_current_from_a_link_to_a_copy_and_back(project, seed, artifacts):
    project.seed(seed)
    project.variables |= {"ansistrano_shared_paths": ["var"], "ansistrano_current_via": "rsync"}
    root = project.root
    (root / "shared/var").mkdir()
    (root / "shared/var/report").write_text("kept")

    project.deploy(artifacts.archive("3"), "3").good()
    assert (root / "current").is_dir() and not (root / "current").is_symlink()
    assert root.read("current/index.php") == "<?php echo 'shop 3';"
    assert root.read("current/var/report") == "kept"

    project.deploy(artifacts.archive("4"), "4").good()
    assert root.read("current/index.php") == "<?php echo 'shop 4';"
    assert (root / "current/var").is_symlink() and root.read("current/var/report") == "kept"

    project.variables["ansistrano_current_via"] = "symlink"
    project.deploy(artifacts.archive("5"), "5").good()
    root.is_at_rest(live="5", releases=["1", "2", "3", "4", "5"])
    assert root.read("current/var/report") == "kept"
