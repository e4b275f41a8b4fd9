# Copyright the Oxistrano authors. MIT license, see LICENSE.
"""Several binaries as one compressed stream, for a host that has none of them."""

from __future__ import annotations

import fcntl
import hashlib
import os

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import binaries

# What a deploy, a rollback and the Magento role call after the module that they begin with.
_DEPLOY = ("release_link", "release_activate", "release_prune", "release_info")
FOLLOWERS = {
    "release_setup": _DEPLOY,
    "release_rollback": ("release_setup", "release_prune", "release_info"),
    "magento_status": ("magento_maintenance", "magento_upgrade", "magento_cache", "magento_cron", "php_fpm"),
}


def followers(module, task_vars):
    """The modules that go to a fresh host together with C(module)."""
    names = FOLLOWERS.get(module, ())
    if module == "release_setup":
        unpacks = "unarchive" in str(task_vars.get("ansistrano_deploy_via", "")) or "artifact" in task_vars
        names = ("release_unpack" if unpacks else "release_copy", *names)
    return names


def _xz(content):
    # Alike parts of the binaries lie farther apart than gzip's window reaches. The lowest level
    # with a large dictionary is three times faster than the usual one, and 7 % larger. The host
    # needs as much memory as the dictionary has. busybox knows no other checksum.
    import lzma

    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 24}]
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)


def _gzip(content):
    import gzip

    return gzip.compress(content, 6, mtime=0)


_COMPRESS = {"xz": _xz, "gzip": _gzip, "cat": bytes}


def pack(wanted, decompressor, scratch):
    """The binaries one after the other, for the host's C(decompressor).

    Raises C(ValueError) when one of them has changed since its hash was taken.
    Compressed once in a run of Ansible, whatever the number of hosts.
    """
    names = "".join(f"{binary.file} " for binary in wanted) + decompressor
    path = os.path.join(scratch, "oxistrano-" + hashlib.sha256(names.encode()).hexdigest()[:32])
    with open(f"{path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return binaries.read(path)
        except FileNotFoundError:
            pass
        content = b"".join(_checked(binary) for binary in wanted)
        packed = _COMPRESS[decompressor](content)
        if decompressor != "cat":
            binaries.write(path, packed)
        return packed


def _checked(binary):
    content = binaries.read(binary.path)
    if hashlib.sha256(content).hexdigest() != binary.sha256:
        raise ValueError(f"{binary.path} has changed meanwhile")
    return content
