#!/bin/sh
# Makes sure that there is an sshd for the tests to start: as root, installs Debian's. Fails
# with a message that says what to do otherwise. Prints the program's path.
set -eu

find_sshd() {
    for path in "$(command -v sshd || true)" /usr/sbin/sshd /usr/local/sbin/sshd; do
        if [ -n "$path" ] && [ -x "$path" ]; then echo "$path"; return 0; fi
    done
    return 1
}

if find_sshd; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no sshd here, and the tests over SSH need one: install it (Debian: apt install openssh-server)" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends openssh-server ||
    { apt-get update -q && apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends openssh-server; }; } >&2 ||
    { echo "cannot install openssh-server, which the tests over SSH need" >&2; exit 1; }
find_sshd || { echo "openssh-server is installed, but there is no sshd" >&2; exit 1; }
