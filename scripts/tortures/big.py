"""Large files, crowded and deep folders, many handles and callers, in the sizes that people meet."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import bigness
from bigness import GIB, TIB, checked
from difference import assert_sound
from mounting import Mounted

Check = Callable[..., str]
FREE_BYTES_MIN = 12 * GIB


def checks(plain: Path, scale: int) -> dict[str, tuple[Check, tuple[object, ...]]]:
    """Name → the check and its sizes, divided by `scale`."""
    return {
        "sparse": (bigness.sparse, (TIB, 600 // scale)),
        "dense": (bigness.dense, (4 * GIB // scale,)),
        "crowded": (bigness.crowded, (100_000 // scale,)),
        "deep": (bigness.deep, (1000 // scale, 100, plain)),
        "handles": (bigness.many_handles, (5_000 // scale,)),
        "callers": (bigness.many_callers, (200, 100 // scale)),
    }


def run(name: str, check: Check, sizes: tuple[object, ...], directory: Path) -> bool:
    """Run one check on a store of its own, which must be sound afterwards; says how it went."""
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="lighthousefs-big-", dir=directory))
    try:
        with Mounted(place) as mounted:
            line = checked(mounted, check, *sizes)
            mounted.unmount()
            assert_sound(mounted.store)
    except Exception:
        traceback.print_exc()
        print(f"{name:<8} failed", flush=True)
        return False
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"{name:<8} ok      {line}; sound ({time.monotonic() - began:.0f} s)", flush=True)
    return True


def main(arguments: list[str]) -> int:
    """Exit status: 0 if every check held."""
    parser = argparse.ArgumentParser(prog="scripts/torture big", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(checks(Path(), 1))}; default all")
    parser.add_argument("--scale", type=int, default=1, metavar="N", help="an Nth of the sizes (default 1)")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="the disk to use")
    given = parser.parse_args(arguments)
    if given.scale < 1 or not set(given.names) <= set(checks(Path(), 1)):
        parser.error("no such check, or a scale below 1")
    if shutil.disk_usage(given.directory).free < FREE_BYTES_MIN // given.scale:
        parser.error(f"{given.directory} has less than {FREE_BYTES_MIN // GIB} GiB free; --directory or --scale")
    with tempfile.TemporaryDirectory(prefix="lighthousefs-plain-", dir=given.directory) as plain:
        chosen = {
            name: it for name, it in checks(Path(plain), given.scale).items() if name in given.names or not given.names
        }
        held = [run(name, check, sizes, given.directory) for name, (check, sizes) in chosen.items()]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
