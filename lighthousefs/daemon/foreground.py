"""Serves a mount in the process of `lighthousefs mount --foreground`, as a service manager starts it.

To systemd, or whoever speaks its protocol (sd_notify(3)), it says READY=1 once the mount answers and STOPPING=1 on the way
down; where nobody listens (NOTIFY_SOCKET is not set) nothing is said. A daemon in the background says nothing: its manager
waits for the command that started it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from sdnotify import SystemdNotifier

from lighthousefs.daemon.serve import Options, serve
from lighthousefs.errors import LighthouseError

_log = logging.getLogger(__name__)


def serve_in_foreground(options: Options, ready: Callable[[dict[str, Any]], None]) -> None:
    """As `serve`, with what the daemon has to say on stderr."""
    # No times: a journal has its own, and on a terminal they are now.
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    notifier = SystemdNotifier()

    def tell_ready(facts: dict[str, Any]) -> None:
        ready(facts)
        notifier.notify("READY=1")

    try:
        serve(options, tell_ready, lambda: notifier.notify("STOPPING=1\nSTATUS=flushes and unmounts"))
    except (LighthouseError, OSError):
        raise
    except Exception:
        # Whoever started this gets a line; the log is where its place is looked for.
        _log.exception("the daemon ends")
        raise
