"""Restoring a moment and undoing events, of any history."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_driver import OPS, Op, random_ops
from reversals import check_restore, check_some, check_undo

HISTORIES = {"ops": st.lists(OPS, min_size=5, max_size=60), "at": st.integers(0, 100)}


@settings(max_examples=10, deadline=None)
@given(**HISTORIES)
def test_restoring_the_project_gives_the_moment_back(ops: list[Op], at: int, tmp_path_factory: Any) -> None:
    check_restore(tmp_path_factory.mktemp("restore"), ops, at)


@settings(max_examples=10, deadline=None)
@given(**HISTORIES)
def test_undoing_the_newest_events_gives_the_earlier_tree_and_undoing_that_the_later(
    ops: list[Op], at: int, tmp_path_factory: Any
) -> None:
    check_undo(tmp_path_factory.mktemp("undo"), ops, at)


@pytest.mark.parametrize("seed", range(8))
def test_undoing_some_events_leaves_what_others_followed_alone_aspect_by_aspect(seed: int, tmp_path: Any) -> None:
    check_some(tmp_path, random_ops(seed, 80), seed)
