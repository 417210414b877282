"""On what a bench ran: the machine, the disk, and the versions of all that takes part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import subprocess
from pathlib import Path

from lighthousefs import __version__

REPOSITORY = Path(__file__).parent.parent.parent
PACKAGES = ("pyfuse3", "trio", "lmdb", "msgpack", "blake3", "xxhash", "eventsourcing")


def describe(directory: Path) -> dict[str, str]:
    """Return names and values, to be printed and compared; `directory` lies on the disk that is measured."""
    return {
        "processor": f"{processor()}, {len(os.sched_getaffinity(0))} to run on",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": platform.release(),
        "disk": disk(directory),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "lighthousefs": f"{__version__}, {commit()}",
        "python": platform.python_version(),
        "libfuse": first_line(["pkg-config", "--modversion", "fuse3"]),
        "bindfs": first_line(["bindfs", "--version"]),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in PACKAGES},
        "git": first_line(["git", "--version"]),
        "npm": first_line(["npm", "--version"]),
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def disk(directory: Path) -> str:
    """Return type, source and options of what `directory` lies on."""
    return first_line(["findmnt", "-n", "-o", "FSTYPE,SOURCE,OPTIONS", "-T", str(directory)])


def commit() -> str:
    """Return the commit of the checkout, and whether files differ from it."""
    found = first_line(["git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD"])
    changed = first_line(["git", "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no"])
    return found if changed == UNKNOWN else f"{found} with changes"


UNKNOWN = "-"


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


def first_line(command: list[str]) -> str:
    """Return the first line that a program prints, `UNKNOWN` if there is none."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return UNKNOWN
    return next(iter(said.splitlines()), UNKNOWN).strip()
