# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the host around a module: two scripts for any POSIX shell.

* C(CALL) looks for the program in this user's cache and runs it; or it says what is needed.
* C(INSTALL) writes the program there, which comes on standard input, and runs it.

They are sent as one line without single quotes, backslashes and exclamation marks, so that
every login shell (csh and fish among them) hands them over as they are. They need ls, and for
an installation cat, chmod, id, mkdir, mv, rm, uname and wc, of GNU or busybox.
What they trust and why: C(docs/transport.md).
"""

from __future__ import annotations

import json
import math
import re
import secrets
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible_collections.oxistrano.deploy.plugins.plugin_utils.program import Program

# Lines of the scripts' own begin with it, after an empty one: what a login shell says at its
# start may lack its line feed. Those of a module begin with "{".
MARK = "oxistrano-host:"
DECOMPRESSORS = ("xz", "gzip", "cat")
_ANSWER = re.compile(rf"^{MARK} (.*?)\r?$", re.M)
# What the program prints for each phase (C(modules/oxistrano/src/phases.rs)).
_PHASE = re.compile(r"^oxistrano-phase: (\{.*\})\r?$", re.M)
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# In JSON, what may stand for one of them (a tag of U+E0000 is two).
_ESCAPE = re.compile(r"\\(\\|[bfr]|u[dD][bB]40\\u[dD][cC][0-7][0-9a-fA-F]|u[0-9a-fA-F]{4})")
# The days that a program is kept unused: other collections' users may have other versions.
KEEP_DAYS = 30


def _one_line(script: str) -> str:
    lines = (line.strip() for line in script.splitlines())
    return " ".join(line for line in lines if line and not line.startswith("#"))


# safe 0 DIRECTORY: the file $f of $s bytes there may be run.
# safe 1 DIRECTORY: it may be written to. safe 2 DIRECTORY: something may be made below.
# Sets d to the directory's physical path, which nobody but this user and root can turn into
# another one: each directory on it is root's or this user's, and others cannot write to it, or
# it is sticky. (In a mode with an access list, the group's bits are the bound for all in it.)
# A cache keeps its name there: a link in /var/tmp, made by somebody else, could lead to any
# directory of this user's, and what is old in it would be removed.
# ls sorts: -r begins with the longest path, the file or directory whose owner is known (-O).
_SAFE = _one_line("""
safe() {
  i=$1;
  cd -P "$2" 2>/dev/null || return 1;
  d=$PWD;
  cd "$OLDPWD" 2>/dev/null || cd /;
  [ $i = 2 ] || [ "${d##*/}" = "${2##*/}" ] || return 1;
  [ -O "$d" ] || return 1;
  set --;
  if [ $i = 0 ]; then
    [ -f "$d/$f" ] && [ -O "$d/$f" ] && [ -x "$d/$f" ] || return 1;
    set -- "$d/$f";
  fi;
  p=$d;
  while [ "$p" ]; do set -- "$@" "$p"; p=${p%/*}; done;
  LC_ALL=C LS_BLOCK_SIZE=1 ls -ldnr "$@" / 2>/dev/null | (
    o=; c=0;
    while read -r m n u g z x; do
      o=${o:-$u};
      case $i$m in
        0-rwx------*) [ "$u" = "$o" ] && [ "$z" = "$s" ];;
        1drwx--[-S]---*) [ "$u" = "$o" ];;
        2d????-??-?*|2d????????[tT]*) [ "$u" = "$o" ] || [ "$u" = 0 ];;
        *) false;;
      esac || exit 1;
      [ $i = 2 ] || i=$((i+1));
      c=$((c+1));
    done;
    [ $c = $(($#+1)) ]
  );
};
""")

# Arguments: the module, "e" if the environment comes first on standard input, Ansible's directory
# for temporary files if the user has chosen it, directories in which the program could not be installed (a "|"
# between them); then for each system that there is a program for, the likely one first: what `uname -sm` says there,
# the file and its size.
# uname is a process, which the usual call does without: that the first file is there says enough,
# unless the kernel (since Linux 6.1) names another processor, as where two share a home directory.
_CALL = (
    _SAFE
    + " "
    + _one_line("""
m=$1 e=$2 t=$3 q=$4; shift 4;
run() {
  safe 0 "$1" || return;
  set -- "$d/$f" "$m";
  # Read once: the arguments come after it.
  if [ "$e" = e ]; then IFS= read -r e; fi;
  # A shell stays: ssh would take a death by a signal for a lost connection. What does not end
  # as a module does may be damaged: the next call brings it anew. What could not be started (126,
  # 127: it may be gone since the look at it) has done nothing: this call does.
  if [ "$e" ]; then ( eval "$e"; exec "$@" - ); else "$@" -; fi;
  i=$?; [ $i -lt 2 ] || rm -f "$1"; case $i in 126|127) return;; esac; exit $i;
};
look() {
  f=$1 s=$2;
  if [ "$t" ]; then run "$t"; fi;
  if [ "$h" ]; then run "$h/.ansible/oxistrano"; fi;
  v=${v:-/var/tmp/oxistrano-$(id -u)}; run "$v";
};
h=; case $HOME in /*) h=${HOME%/};; esac;
v=; if [ "$t" ]; then t=$t/oxistrano-$(id -u); fi;
k=; { read -r k </proc/sys/kernel/arch; } 2>/dev/null;
case $1 in "Linux ${k:-${1#* }}") look "$2" "$3";; esac;
u=$(uname -sm);
while [ $# -gt 0 ]; do
  if [ "$1" = "$u" ]; then look "$2" "$3"; fi;
  shift 3;
done;
cat >/dev/null;
umask 077;
w=;
no() { w="$w$1 $2; "; false; };
use() {
  [ -d "$1" ] || mkdir "$1" 2>/dev/null || [ -d "$1" ] || no "$1" "cannot be made" || return;
  safe 1 "$1" || no "$1" "is not of this user alone (owner, mode, a link, or a directory above it)" || return;
  case "|$q|" in *"|$d|"*) return 1;; esac;
  x=$d/.try.$$;
  { echo : >"$x" && chmod 700 "$x"; } 2>/dev/null || no "$1" "cannot be written to" || return;
  "$x" 2>/dev/null; r=$?; rm -f "$x";
  # By /proc busybox runs a script that does not say by what; without, the installation tells.
  [ -e /proc/self ] || r=0;
  [ $r = 0 ] || no "$1" "runs no programs (mounted noexec)";
};
use_home() {
  [ "$h" ] || no "the home directory" "is not known" || return;
  safe 2 "$h" || no "$h" "is not of this user alone (owner, mode, or a directory above it)" || return;
  [ -d "$h/.ansible" ] || mkdir "$h/.ansible" 2>/dev/null;
  use "$h/.ansible/oxistrano";
};
if [ "$t" ]; then [ -d "${t%/*}" ] || mkdir -p "${t%/*}" 2>/dev/null; fi;
if { [ "$t" ] && use "$t"; } || use_home || use "$v"; then
  for z in DECOMPRESSORS; do command -v $z >/dev/null && break; done;
  echo; echo "MARK need|$z|$u|$d|$w";
else
  echo; echo "MARK none|$w";
fi
""")
    .replace("MARK", MARK)
    .replace("DECOMPRESSORS", " ".join(DECOMPRESSORS))
)

# Arguments: the directory, what decompresses, a random word, the file, its size and SHA-256, the
# module, "e". Standard input: the environment (with "e") and the arguments, a line each, and the
# program, compressed.
_INSTALL = (
    _SAFE
    + " "
    + _one_line("""
t=$1 z=$2 k=$3 f=$4 s=$5 c=$6 m=$7 e=$8;
if [ "$e" ]; then IFS= read -r e; fi;
IFS= read -r a;
write() {
  umask 077;
  case $z in cat) cat;; *) $z -dc;; esac >"$n" || return;
  [ "$(wc -c <"$n")" -eq "$s" ] || { echo "$f came incomplete"; return 1; };
  if command -v sha256sum >/dev/null; then
    h=$(sha256sum <"$n"); [ "${h%% *}" = "$c" ] || { echo "$f came damaged"; return 1; };
  fi;
  chmod 700 "$n" || return;
  "$n" </dev/null >/dev/null; r=$?;
  [ $r = 1 ] || { echo "$f does not run here (exit code $r)"; return 1; };
  mv -f "$n" "$d/$f";
};
if safe 1 "$t"; then
  n=$d/.new.$k;
  w=$(write 2>&1); r=$?;
  rm -f "$n";
  find "$d" -type f -atime +DAYS -exec rm -f {} + >/dev/null 2>&1;
  if [ $r = 0 ] && safe 0 "$t"; then
    printf %s "$a" | { set -- "$d/$f" "$m"; if [ "$e" ]; then eval "$e"; fi; exec "$@" -; };
    exit;
  fi;
else
  w="it is not of this user alone any more";
fi;
cat >/dev/null;
echo; echo "MARK none|$t:" $w
""")
    .replace("MARK", MARK)
    .replace("DAYS", str(KEEP_DAYS))
)


def _command(script: str, arguments: Iterable[object]) -> str:
    return shlex.join(["/bin/sh", "-c", script, "oxistrano", *map(str, arguments)])


def call(module: str, environment: str, directory: str, programs: Iterable[Program], failed: Sequence[str] = ()) -> str:
    """The command that runs C(module) by the cached one of C(programs), or says what is needed.

    C(failed): directories in which it could not be installed.
    """
    told = [part for program in programs for part in (program.system, program.file, program.size)]
    return _command(_CALL, [module, environment and "e", directory, "|".join(failed), *told])


def install(module: str, environment: str, directory: str, decompressor: str, program: Program) -> str:
    """The command that installs C(program) and runs C(module) by it."""
    word = secrets.token_hex(8)  # several may install at once, and hosts may share the directory
    told = [program.file, program.size, program.sha256]
    return _command(_INSTALL, [directory, decompressor, word, *told, module, environment and "e"])


def sudo_starts_a_shell(options: str) -> bool:
    """Whether C(sudo) with these options does so (C(-i), C(-s)).

    Several may stand in one word; behind one that takes an argument comes that.
    """
    return bool(re.search(r"\s-([ABbEeHKklNnPSVv]*[is]|-login(\s|$)|-shell(\s|$))", f" {options}"))


def export(environment: Mapping[str, object]) -> str:
    """The line that a script evaluates to have these variables; empty if there are none.

    It goes over standard input: a command line can be read by everybody on the host.
    Raises C(ValueError) for a name that a shell cannot have.
    """
    words = []
    for name, value in environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(name)
        words.append(f"{name}=" + shlex.quote(str(value)).replace("\n", "'\"$l\"'"))
    # A line feed cannot stand in a line; command substitution drops it at the end.
    return f'l="$(echo; echo .)"; l=${{l%.}}; export {" ".join(words)}\n' if words else ""


def visible(text: str) -> str:
    """The same without anything that is a command to a terminal, or turns the order of what stands around it.

    A module sees to that itself (C(modules/core/src/show.rs)). But where become's user is not to be trusted,
    something else may answer in its place: the kept program is that user's.
    """
    return _HIDDEN.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def visible_json(text: str) -> str:
    """The same of JSON, which is still JSON: newer versions of ansible-core make objects of messages at once."""

    def written_out(found: re.Match[str]) -> str:
        escape = found.group()
        shown = json.loads(f'"{escape}"')
        return escape.replace("\\", "\\\\") if shown != "\\" and (shown == "\r" or _HIDDEN.match(shown)) else escape

    text = _ESCAPE.sub(written_out, text)
    return _HIDDEN.sub(lambda found: "\\" + found.group().encode("unicode_escape").decode(), text)


def answer(stdout: str) -> dict[str, str] | None:
    """What a script has said: a dictionary, or None where a module has answered instead.

    C(kind) C(none): there is no place on the host; C(why) says why. C(need): the file is not
    there; C(directory) is its place, C(decompressor) and C(system) (C(uname -sm)) what to know
    for bringing it, C(why) what spoke against better places.
    """
    said = _ANSWER.search(stdout)
    if not said:
        return None
    kind, *rest = (visible(part.strip(" ;")) for part in said.group(1).split("|"))
    # Become's user may have answered in place of the script: nothing of it is more than a word.
    if kind == "need" and len(rest) == 4 and rest[0] in DECOMPRESSORS:
        decompressor, system, directory, why = rest
        return {"kind": kind, "decompressor": decompressor, "system": system, "directory": directory, "why": why}
    return {"kind": "none", "why": " ".join(rest)}


def phases(stdout: str) -> list[dict[str, Any]]:
    """For each phase that has run, a dictionary: C(output), what its module has printed; C(code), its exit code; C(seconds)."""
    found = []
    for line in _PHASE.findall(stdout):
        try:
            told = json.loads(line)
            # Become's user may have answered: nothing is taken but what is used.
            seconds = float(told["seconds"])
            if not math.isfinite(seconds):
                break
            found.append({"output": str(told["output"]), "code": int(told["code"]), "seconds": seconds})
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError):
            break
    return found
