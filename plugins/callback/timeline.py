# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what a deploy does, and when."""

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
type: aggregate
short_description: Show what a deploy does on each host, and how long it takes
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - At the end of a playbook that used modules of this collection, it shows one line for each host, with the phases as a bar over
    time, the slowest phase, what was sent, how long requests were held or maintenance was on, and the old and the new
    release.
  - In a terminal, the last line shows during the play what runs on which host, for how long, and how much of an archive has
    been sent. Elsewhere, for example in a CI log, a task gets a line after half a minute, and another one each time that its
    duration has doubled.
  - It can write the same as JSON, and as a self-contained HTML page, in light and dark.
  - Of a task, it shows and writes only its name, type, times and outcome, and numbers and names of releases.
requirements:
  - C(callbacks_enabled = oxistrano.deploy.timeline) in C(ansible.cfg), or C(ANSIBLE_CALLBACKS_ENABLED=oxistrano.deploy.timeline).
options:
  json:
    description: The file to write the JSON to.
    type: path
    env:
      - name: OXISTRANO_TIMELINE_JSON
    ini:
      - section: oxistrano_timeline
        key: json
  html:
    description: The file to write the HTML page to.
    type: path
    env:
      - name: OXISTRANO_TIMELINE_HTML
    ini:
      - section: oxistrano_timeline
        key: html
  progress:
    description: Whether to show progress during the play.
    type: bool
    default: true
    env:
      - name: OXISTRANO_TIMELINE_PROGRESS
    ini:
      - section: oxistrano_timeline
        key: progress
notes:
  - Colours follow Ansible's rules, including C(NO_COLOR) and C(ANSIBLE_FORCE_COLOR).
"""

import json
import os
import shutil
import sys
import threading
import time
from datetime import datetime, timezone

from ansible import constants as C
from ansible.plugins.callback import CallbackBase
from ansible.utils.color import ANSIBLE_COLOR, stringc

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import timeline, upload_notes
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.timeline_page import page

# Seconds: between two looks at what runs, until it is shown in a terminal, and in a log.
EVERY = 0.5
SOON = 1
LATE = 30
WIDTH_OF_A_LOG = 120


class CallbackModule(CallbackBase):
    """Listens."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "oxistrano.deploy.timeline"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._timeline = timeline.Timeline()
        self._began = self._playbook = None
        self._progress = None

    def v2_playbook_on_start(self, playbook):
        self._playbook = os.path.basename(getattr(playbook, "_file_name", "") or "playbook")
        if self.get_option("progress"):
            upload_notes.wish(C.DEFAULT_LOCAL_TMP)
            self._progress = Progress(self._timeline, self._display)

    def v2_runner_on_start(self, host, task):
        if self._began is None:
            self._began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        state = task.args.get("state") if isinstance(task.args, dict) else None
        module = task.action.rpartition(".")[2]
        role_path = getattr(task._role, "_role_path", "") if task._role else ""
        phase = timeline.phase_of(module, state if isinstance(state, str) else None, task.get_path() or "", role_path)
        # Ansible puts the name of the role before it.
        name = task.get_name().strip()
        name = name.partition(" : ")[2] or name if task._role else name
        step = timeline.Step(name, module, state, phase, time.monotonic())
        self._timeline.start(host.get_name(), step)

    def v2_runner_on_ok(self, result):
        self._finish(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._finish(result, "failed")

    def v2_runner_on_skipped(self, result):
        self._finish(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        self._finish(result, "unreachable")

    def _finish(self, result, status):
        self._timeline.finish(result._host.get_name(), status, result._result, time.monotonic())

    def v2_playbook_on_stats(self, stats):
        now = time.monotonic()
        if self._progress:
            self._progress.stop()
        # A failure that was dealt with is none of the play's.
        states = {host: "failed" for host in stats.failures} | {host: "unreachable" for host in stats.dark}
        self._timeline.close(states, now)
        if not self._timeline.concerns_us:
            return
        told = self._timeline.as_dict(self._began)
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_OF_A_LOG
        paint = stringc if ANSIBLE_COLOR else lambda text, color: text
        self._display.banner("TIMELINE")
        for line in timeline.lines(told, width, paint):
            self._display.display(line)
        self._write("json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        self._write("html", page(told, f"{self._playbook}: timeline"))

    def _write(self, option, text):
        path = self.get_option(option)
        if not path:
            return
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self._display.warning(
                f"the timeline was not written to '{path}': {error.strerror}. The deploy is not affected. Set another file in"
                f" OXISTRANO_TIMELINE_{option.upper()}."
            )
        else:
            self._display.display(f"{'':3}{path}")


class Progress:
    """Shows what runs, from a thread of its own.

    Ansible forks a process for each task. So this thread takes no lock that a child could find taken: it writes by
    os.write, and never by Ansible's display.
    """

    def __init__(self, of, display):
        self._timeline, self._display = of, display
        self._terminal = sys.stdout.isatty()
        self._ended = threading.Event()
        self._shown = False
        self._told = {}
        if self._terminal:
            self._clear_before_each_line(os.getpid())
        self._thread = threading.Thread(target=self._run, name="oxistrano-timeline", daemon=True)
        self._thread.start()

    def _clear_before_each_line(self, mine):
        display = self._display.display

        def cleared(*args, **kwargs):
            if os.getpid() == mine:
                self._clear()
            return display(*args, **kwargs)

        self._display.display = cleared

    def _run(self):
        while not self._ended.wait(EVERY):
            now = time.monotonic()
            running = [(host.name, host.running) for host in list(self._timeline.hosts.values()) if host.running]
            running = [(host, step) for host, step in running if step and step.module != "pause"]
            if self._terminal:
                self._in_terminal([(host, step) for host, step in running if now - step.begin >= SOON], now)
            else:
                self._in_log(running, now)

    def _in_terminal(self, running, now):
        if not running:
            self._clear()
            return
        text = timeline.progress(running, now, upload_notes.read(C.DEFAULT_LOCAL_TMP))
        self._shown = True
        self._put("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1])

    def _in_log(self, running, now):
        for host, step in running:
            known, due = self._told.get(host, (None, LATE))
            due = due if known is step else LATE
            if now - step.begin < due:
                continue
            self._told[host] = (step, due * 2)
            self._put(timeline.progress([(host, step)], now, upload_notes.read(C.DEFAULT_LOCAL_TMP)) + "\n")

    def _clear(self):
        if self._shown:
            self._shown = False
            self._put("\r\x1b[K")

    @staticmethod
    def _put(text):
        try:
            os.write(sys.stdout.fileno(), text.encode("utf-8", "replace"))
        except (OSError, ValueError):
            pass  # nobody reads it

    def stop(self):
        self._ended.set()
        self._thread.join(EVERY * 4)
        self._clear()
