"""The daemon, killed as it comes to its N-th call of a kind: `under_strace.py CALL N --store ...`."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    call, number, *arguments = sys.argv[1:]
    kill = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    daemon = [sys.executable, "-m", "lighthousefs.daemon", *arguments]
    os.execvp("strace", ["strace", "-f", "-qq", "-o", "/dev/null", *kill, *daemon])
