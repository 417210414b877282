"""What shows of a file's writes, held against a file: bytes that each know which write they are of."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lighthousefs.domain.events import DIGEST_BLAKE3, Truncated, Written
from lighthousefs.domain.overlay import hidden, shown, size_after

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40), st.integers(1, 30)),
        st.tuples(st.just("cut"), st.integers(1, 60), st.just(0)),
    ),
    max_size=25,
)


def as_events(changes: list[tuple[str, int, int]]) -> list[Written | Truncated]:
    return [
        Written(3, at, False, DIGEST_BLAKE3, bytes(32), length, None, False, 0)
        if kind == "write"
        else Truncated(3, at, None, False, 0)
        for kind, at, length in changes
    ]


@given(CHANGES)
def test_shown_is_what_a_file_of_labelled_bytes_shows(changes: list[tuple[str, int, int]]) -> None:
    model: list[int | None] = []
    for number, (kind, at, length) in enumerate(changes):
        size = at + length if kind == "write" else at
        if kind == "cut":
            del model[at:]
        model += [None] * (size - len(model))
        if kind == "write":
            model[at : at + length] = [number] * length
    events = as_events(changes)
    assert size_after(events) == len(model)
    found: list[int | None] = [None] * len(model)
    layers = list(shown(events))[::-1]
    assert len(layers) == len(events)
    for number, (event, spans) in enumerate(zip(events, layers, strict=True)):
        for start, end in spans:
            assert found[start:end] == [None] * (end - start), "no byte is shown twice"
            found[start:end] = [number] * (end - start)
        if isinstance(event, Written):
            parts = sorted([*spans, *hidden(event, spans)])
            assert [parts[0][0], parts[-1][1]] == [event.offset, event.offset + event.length]
            assert all(end == start for (_first, end), (start, _last) in pairwise(parts))
    assert found == model
