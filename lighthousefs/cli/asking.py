"""Gets a question answered: by the daemon that has the store, else by opening the store here."""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.api import Project, Row, Source, answering
from lighthousefs.cli import output
from lighthousefs.cli.target import Target


def ask(target: Target, question: str, **arguments: object) -> Iterator[Row]:
    """Rows of the answer. Raises Unusable, and what opening a store or its daemon's answer raises."""
    with answering(target.store, target.mount, output.note) as answer:
        yield from answer(question, **arguments)


def answers(target: Target) -> Source:
    """Who answers for the target, for a command that asks several things: one after the other. Raises the same."""
    return answering(target.store, target.mount, output.note)


def project(target: Target, doing: str) -> Project:
    """The project of the target, opened for what takes long, of which others are told. Raises the same."""
    return Project(answering(target.store, target.mount, output.note, doing))
