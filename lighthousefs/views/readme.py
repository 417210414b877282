"""The README.md at the root of every mount."""

from __future__ import annotations

_TEXT = """\
# This is a LighthouseFS mount

Everything that happens to the project is kept: every write, rename, chmod and removal is an event in a log that is never
lost, with who did it and when. The past is just more folders.

    current/               the live project: work here, with any program
    history/@421/          the whole project right after event 421, read-only
    history/<when>         a link to the moment you name (below)
    status/health.json     how the store and its daemon are
    status/version         which LighthouseFS serves this mount

## Naming a moment

    history/5m-ago/        also s, h, d, w; yesterday
    history/2026-11-23T04:22:32Z/    an instant (shorter forms are their start; without an offset it is UTC)
    history/now/           the newest moment

Such a link is resolved anew each time, a `history/@N` folder never changes. `ls history/` lists none of them: name one.

## Try

    cat history/5m-ago/src/a.py                       a file as it was
    diff -r history/1h-ago/src current/src            what changed in the last hour
    cp history/5m-ago/src/a.py current/src/a.py       undo: take an old state back, as a new change
    lighthousefs log .                                what happened, newest first
    lighthousefs show . 421                           one event whole
    getfattr -n user.lighthouse.agent current/a.py    who changed it last (also .event, .version)

You work here as agent `uid-N`, where N is your user id. Nobody but the owner of a file's permissions decides what you may
do; the past has the permissions it had.
"""


def readme() -> bytes:
    """Text for people and agents who find themselves in a mount."""
    return _TEXT.encode()
