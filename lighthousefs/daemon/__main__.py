"""`python -m lighthousefs.daemon`: serve a mount in the background for `lighthousefs mount`.

One JSON line goes to the descriptor `--ready-fd`: {"ready": ...} or {"error": {...}} as `control.problems` has it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from lighthousefs.config import Config, load
from lighthousefs.control.problems import describe
from lighthousefs.daemon.serve import Options, serve
from lighthousefs.errors import LighthouseError
from lighthousefs.layout import Layout


def main(arguments: list[str]) -> int:
    """Exit status of the daemon: 0 after a clean end, 1 if it could not serve."""
    parser = ArgumentParser(prog="python -m lighthousefs.daemon", allow_abbrev=False)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--mount-point", type=Path, required=True)
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--allow-other", action="store_true")
    parser.add_argument("--acl", action="store_true")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--layout", type=Layout, choices=list(Layout), default=Layout.VIEWS)
    parser.add_argument("--ready-fd", type=int, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    waiting = [given.ready_fd]

    def tell(message: dict[str, Any]) -> None:
        if waiting:
            descriptor = waiting.pop()
            os.write(descriptor, json.dumps(message).encode() + b"\n")
            os.close(descriptor)

    try:
        config = Config() if given.config is None else load(given.config)
        options = Options(
            given.store,
            given.mount_point,
            given.read_only,
            given.allow_other,
            given.acl,
            config,
            given.layout,
            given.config,
        )
        serve(options, lambda facts: tell({"ready": facts}))
    except LighthouseError as error:
        logging.getLogger(__name__).error("%s", error)
        tell({"error": describe(error)._asdict()})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
