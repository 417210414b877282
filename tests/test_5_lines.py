"""The lines of `events/`: the same for ever, as their lengths are kept."""

from __future__ import annotations

import json
from pathlib import Path

from blake3 import blake3
from test_1_codec import SAMPLES

from lighthousefs.answers.eventjson import event_line, rfc3339
from lighthousefs.engine.opening import create_store, open_store
from lighthousefs.log.eventlog import Logged
from lighthousefs.views.runs import LINES_VERSION

TIME = 1_763_958_152_500_000_001
GOLDEN = {2: "e15f394754f3a6d4f5a6f74203fe6905ab56ea27b522d582a3953160ba326424"}
"""By version of the lines: a digest of the lines of one event of each type. Another type is another digest, of the same version
as long as the lines of the others stay."""


def test_lines_stay_as_they_are_or_have_another_version(tmp_path: Path) -> None:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    try:
        lines = {kind: event_line(opened.engine, Logged(5, TIME, event)) for kind, event in sorted(SAMPLES.items())}
    finally:
        opened.close()
    for kind, line in lines.items():
        assert line.endswith(b"}\n")
        assert json.loads(line)["type"] == kind
    assert blake3(b"".join(lines.values())).hexdigest() == GOLDEN[LINES_VERSION]


def test_times_are_told_to_the_nanosecond() -> None:
    for ns, text in (
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (TIME, "2025-11-24T04:22:32.500000001Z"),
        (-(1 << 63), "1677-09-21T00:12:43.145224192Z"),
        ((1 << 63) - 1, "2262-04-11T23:47:16.854775807Z"),
    ):
        assert rfc3339(ns) == text
