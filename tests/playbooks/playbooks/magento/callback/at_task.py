# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does something at the boundary before a task: what stands in the environment."""

from __future__ import annotations

import os
import signal
import subprocess

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: at_task
type: notification
short_description: Does something at the boundary before a task
description:
  - E(AT_TASK) is a task's name, without that of its role, or its number in the play, from 1.
  - E(AT_TASK_DO) is V(kill), which kills this controller, or a command of the shell.
  - The number and the name of the last task that began are written to the file E(AT_TASK_TOLD).
requirements:
  - to be enabled
"""


class CallbackModule(CallbackBase):
    """Counts the tasks of a play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "at_task"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.number, self.waiting = 0, True

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.number += 1
        name = task.get_name().rpartition(" : ")[2].strip()
        with open(os.environ["AT_TASK_TOLD"], "w", encoding="utf-8") as file:
            file.write(f"{self.number} {name}")
        if self.waiting and os.environ["AT_TASK"] in (str(self.number), name):
            self.waiting = False
            if os.environ["AT_TASK_DO"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            subprocess.run(os.environ["AT_TASK_DO"], shell=True, check=True, stdout=subprocess.DEVNULL)
