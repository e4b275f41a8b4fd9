"""The readers of what the kernel says of a process's memory."""

from __future__ import annotations

import os
import subprocess
import sys

from .memory import Memory, below, rollup

PROGRAM = "from_here.py"
# Holds 30 MB before a fork, which writes to 8 MB of its own.
TEXT = """
import os, sys, time
shared = bytearray(os.urandom(30 << 20))
if os.fork() == 0:
    own = bytearray(os.urandom(8 << 20))
    print("ready", flush=True)
sys.stdin.read()
"""


def test_what_a_process_has_alone_and_its_part_of_the_rest():
    told = (
        "5-7 ---p 0 00:00 0   [rollup]\nRss:   9000 kB\nPss:   4096 kB\nPss_Dirty: 100 kB\nPrivate_Clean:  512 kB\nPrivate_Dirty:  512 kB\n"
    )
    assert rollup(told) == (4.0, 1.0)


def test_a_fork_is_counted_for_what_it_has_alone_and_all_for_what_they_take_together(tmp_path):
    script = tmp_path / PROGRAM
    script.write_text(TEXT)
    with subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            assert process.pid in below(os.getpid()) and len(below(process.pid)) == 2
            memory = Memory(str(script))
            memory.look(process.pid)
            another = Memory("/another")
            another.look(process.pid)
        finally:
            process.stdin.close()
    # What was there before the fork is counted once.
    assert 8 <= memory.fork < 25 and 38 <= memory.whole < 68
    assert (another.whole, another.fork) == (0, 0)
