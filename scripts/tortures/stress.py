"""stress-ng's stressors of file systems, and fio, with what they verify; each beside the same on a plain folder."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tortures.beside import HEADING, Row, compare, places

STRESSORS = (
    *("access", "aio", "chattr", "chdir", "chmod", "chown", "copy-file", "dentry", "dir"),
    *("dirdeep", "dirmany", "dnotify", "dup", "fallocate", "fanotify", "fcntl", "fiemap", "file-ioctl"),
    *("filename", "flock", "fpunch", "fsize", "fstat", "getdent", "handle", "hdd", "inode-flags"),
    *("inotify", "io", "iomix", "lease", "link", "locka", "lockf", "lockofd", "mknod"),
    *("mmap", "open", "readahead", "rename", "revio", "seek", "sendfile", "splice", "symlink"),
    *("sync-file", "touch", "utime", "verity", "xattr"),
)

KNOWN = {"fiemap": "no ioctl: the FUSE library has no handler for it"}
"""Stressors that cannot give on this stack what they give below, and why."""

OPTIONS = {name: (f"--{name}-bytes", "4m") for name in ("fallocate", "iomix", "readahead", "sync-file")}
"""Where fallocate is refused these write their whole file first, of 1 GiB, and have no time left."""

RESULTS = {0: "passed", 2: "failed", 3: "no resource", 4: "not supported"}

FIO = {
    "fio-sequential": "--rw=write --bs=128k --ioengine=psync",
    "fio-random": "--rw=randwrite --bs=4k --ioengine=psync",
    "fio-mixed-sizes": "--rw=randrw --bsrange=512-64k --bs_unaligned --ioengine=psync --norandommap=0",
    "fio-mmap": "--rw=randwrite --bs=4k --ioengine=mmap",
    "fio-aio": "--rw=randwrite --bs=4k --ioengine=libaio --iodepth=16",
    "fio-direct": "--rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --direct=1",
    "fio-fsync": "--rw=randwrite --bs=16k --ioengine=sync --fsync=8",
    "fio-vectors": "--rw=randwrite --bs=8k --ioengine=pvsync2",
    "fio-uring": "--rw=randwrite --bs=4k --ioengine=io_uring --iodepth=8",
}


def stress(name: str, folder: Path, seconds: int, log: Path) -> str:
    """One stressor by two workers."""
    command = ["stress-ng", "--temp-path", str(folder), f"--{name}", "2", "--timeout", f"{seconds}s", "--verify"]
    result, said = _ended([*command, "--metrics-brief", *OPTIONS.get(name, ())], folder, log, seconds * 6 + 60)
    rounds = re.search(rf"metrc: \[[0-9]+\] {name} +([0-9]+)", said)
    if result == "passed" and ("skipping stress" in said or rounds is None or rounds[1] == "0"):
        return "skips itself"
    return result


def fio(name: str, folder: Path, megabytes: int, log: Path) -> str:
    """Four jobs, each in a file of its own, read back and verified."""
    command = ["fio", "--name=job", f"--directory={folder}", f"--size={megabytes}m", "--numjobs=4", "--verify=crc32c"]
    command += ["--verify_fatal=1", "--do_verify=1", "--fallocate=none", "--group_reporting", *FIO[name].split()]
    return _ended(command, folder, log, 300)[0]


def _ended(command: list[str], folder: Path, log: Path, seconds_max: float) -> tuple[str, str]:
    """How a program ended, and what it said, which goes to the log as well."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds_max,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "no end", ""
    said = done.stdout.decode(errors="backslashreplace")
    with log.open("a") as out:
        out.write(f"$ {' '.join(command)}\n{said}")
    return RESULTS.get(done.returncode, f"status {done.returncode}"), said


def run_all(names: list[str], given: argparse.Namespace) -> list[Row]:
    rows = []
    with places(given.directory) as here:
        print(HEADING, flush=True)
        for name in names:
            if name in FIO:
                row = compare(here, name, lambda folder, name=name: fio(name, folder, given.megabytes, given.log))
            else:
                row = compare(
                    here,
                    name,
                    lambda folder, name=name: stress(name, folder, given.seconds, given.log),
                    KNOWN.get(name, ""),
                )
            print(row.told(), flush=True)
            rows.append(row)
    return rows


def main(arguments: list[str]) -> int:
    """Exit status: 0 if every result is what it is below, or known to differ."""
    parser = argparse.ArgumentParser(prog="scripts/torture stress", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join([*STRESSORS, *FIO])}; default all")
    parser.add_argument("--seconds", type=int, default=5, metavar="N", help="for each stressor (default 5)")
    parser.add_argument("--megabytes", type=int, default=32, metavar="N", help="of each fio job's file (default 32)")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="the disk to use")
    parser.add_argument("--log", type=Path, default=Path("/tmp/torture-stress.log"), metavar="FILE")
    given = parser.parse_args(arguments)
    for program in ("stress-ng", "fio"):
        if shutil.which(program) is None:
            parser.error(f"{program} is missing: apt-get install {program}")
    names = given.names or [*STRESSORS, *FIO]
    unknown = set(names) - {*STRESSORS, *FIO}
    if unknown:
        parser.error(f"no such stressor: {', '.join(sorted(unknown))}")
    rows = run_all(names, given)
    differing = [row.name for row in rows if not row.held]
    print(f"{len(rows)} run, {len(differing)} differ: {' '.join(differing)}; what was said: {given.log}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
