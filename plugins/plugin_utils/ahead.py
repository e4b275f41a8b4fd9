# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes what is sent to a host while the host is still asked what it has: what it had after the last deploy is noted."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import core_versions, delta


class Stopped(Exception):
    """It is not needed."""


class Ahead:
    """Makes a bundle in a thread, by the program C(ours). If the host has C(base), C(delta.make) finds it made, or waits for it."""

    def __init__(self, ours: str, source: delta.Source, sha256: str, scratch: str, base: str) -> None:
        self.base = base
        self._ours = ours
        self._made = (source, sha256, scratch)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it if it is still at work. It leaves nothing."""
        with self._lock:
            self._stopped = True
            if self._process:
                self._process.kill()
        self._thread.join()

    def _make(self) -> None:
        try:
            delta.make(self._run, *self._made, base=self.base)
        # Who needs it is told why it cannot be made.
        except Exception:
            pass

    def _run(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            if self._stopped:
                raise Stopped
            pipe = subprocess.PIPE
            self._process = subprocess.Popen([self._ours, module, "-"], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        output, _none = self._process.communicate(json.dumps(arguments, **core_versions.ENCODING).encode())
        with self._lock:
            self._process = None
            # Not an error of the archive, which other processes would be told.
            if self._stopped:
                raise Stopped
        return json.loads(output)
