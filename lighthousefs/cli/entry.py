"""Where the program begins: it loads the rest so that Ctrl-C meanwhile ends it without a traceback of half-loaded modules."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line of this process and leave with its exit status."""
    handler = signal.getsignal(signal.SIGINT)
    # Whoever has it ignored (nohup, a shell's background) keeps that.
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from lighthousefs.cli.main import main as run

    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, handler)
    run()
