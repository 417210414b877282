"""What an auditor finds in the log: that a mounted store was verified, backed up, restored, by whom and with what result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from backups import facts_of
from commandline import done, done_here, rows_here, run
from mounting import Mounted

CONTENTS = b"some contents " * 500
KINDS = ("verified", "backed-up", "backup-restored")


def told(target: Path, kind: str) -> list[dict[str, Any]]:
    """The newest first."""
    return rows_here("log", target, "--type", kind, "--raw")


def test_a_mounted_store_tells_what_was_done_with_it(tmp_path: Path, dest: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "file").write_bytes(CONTENTS)
        first = mounted.newest()
        head = done("verify", mounted.mount_point, "--chain").split()[-1]
        (row,) = told(mounted.mount_point, "verified")
        assert (row["moment"], row["deep"], row["broken"], row["head"]) == (first, False, 0, head)
        assert (row["agent"], row["uid"], row["pid"] > 0) == (f"uid-{os.getuid()}", os.getuid(), True)
        (made,) = rows_here("backup", "create", mounted.mount_point, dest)
        (row,) = told(mounted.mount_point, "backed-up")
        assert (row["moment"], row["backup"], row["damaged"]) == (made["seq"], made["id"], 0)
        assert (row["dest"], row["agent"]) == (str(dest), f"uid-{os.getuid()}")
        lines = done_here("log", mounted.mount_point)
        assert f"up to @{first}: sound" in lines
        assert f"backed up  {dest}" in lines
        mounted.unmount()
        (segment,) = (mounted.store / "journal").iterdir()
        segment.write_bytes(segment.read_bytes().replace(CONTENTS, b"S" + CONTENTS[1:]))
        mounted.mount()
        assert run("verify", mounted.mount_point, "--deep").returncode == 1
        row, _first = told(mounted.mount_point, "verified")
        assert (row["deep"], row["broken"], row["head"]) == (True, 1, "")
        assert f"up to @{row['moment']}, every byte: 1 broken invariant" in done_here("log", mounted.mount_point)


def test_a_restored_store_tells_of_it_when_it_is_first_opened(store: Path, dest: Path, tmp_path: Path) -> None:
    before = facts_of(store)
    (made,) = rows_here("backup", "create", store, dest)
    assert facts_of(store) == before, "nobody serves it: it is left as it is"
    again = tmp_path / "again"
    done_here("backup", "restore", dest, again)
    for _once in range(2):
        (row,) = told(again, "backup-restored")
        assert (row["backup"], row["moment"], row["origin"]) == (made["id"], made["seq"], str(store))
        assert (row["restorer"], row["seq"] > made["seq"]) == (os.getuid(), True)
    assert f"from the backup {made['id']} of {store}, up to @{made['seq']}" in done_here("log", again)
    assert [told(again, kind) for kind in KINDS[:2]] == [[], []]


def test_where_nothing_can_be_written_all_is_done_without_a_word(tmp_path: Path, dest: Path) -> None:
    with Mounted(tmp_path, options=["--read-only"]) as mounted:
        newest = mounted.newest()
        assert done("verify", mounted.mount_point).startswith("sound:")
        done_here("backup", "create", mounted.mount_point, dest)
        assert mounted.newest() == newest
