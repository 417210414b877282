"""Large files, crowded and deep folders, many handles and callers: what `scripts/torture big` does in full, in small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bigness
import pytest
from bigness import MIB, TIB, checked
from difference import assert_sound
from mounting import Mounted


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with Mounted(tmp_path_factory.mktemp("big")) as mounted:
        yield mounted


def test_a_sparse_file_of_a_tebibyte(mounted: Mounted) -> None:
    print(checked(mounted, bigness.sparse, TIB, 60))


def test_a_dense_file_is_whole_today_and_then(mounted: Mounted) -> None:
    print(checked(mounted, bigness.dense, 64 * MIB))


def test_a_crowded_folder_is_listed_while_it_changes(mounted: Mounted) -> None:
    print(checked(mounted, bigness.crowded, 4000))


def test_folders_deeper_than_a_path_can_say(mounted: Mounted, tmp_path: Path) -> None:
    print(checked(mounted, bigness.deep, 150, 100, tmp_path))


def test_many_open_handles(mounted: Mounted) -> None:
    print(checked(mounted, bigness.many_handles, 2000))


def test_two_hundred_callers_at_once(mounted: Mounted) -> None:
    print(checked(mounted, bigness.many_callers, 200, 5))


def test_zz_the_store_is_sound_when_the_mount_is_gone(mounted: Mounted) -> None:
    mounted.unmount()
    assert_sound(mounted.store)
