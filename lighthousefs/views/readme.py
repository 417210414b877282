"""The README.md among the views of every mount. A test tries its commands."""

from __future__ import annotations

from lighthousefs.layout import VIEWS_NAME, Layout

_TEXT = """\
# This is a LighthouseFS mount

Everything that happens to the project is kept: every write, rename, chmod and removal is an event in a log that is never
lost, with who did it and when. The past is just more folders. Paths here are from the root of the mount.

    {project}the live project: work here, with any program
    {views}history/@421/{pad}the whole project right after event 421, read-only
    {views}history/5m-ago/{pad2}the project five minutes ago, read-only
    {views}versions/src/a.py/{pad5}every version of a file, removed ones too, read-only
    {views}tags/{pad6}names of moments: links that you make and remove
    {views}events/{pad3}the log as JSON Lines, 10,000 events a file, `newest` the last one
    {views}status/{pad4}alerts.json, config.toml, health.json, version, whoami, last-error

## Naming a moment

`history/WHEN` is a link to the moment, resolved anew each time; a `history/@N` folder never changes. WHEN is

    5m-ago                   also s, h, d, w; and yesterday
    2026-11-23T04:22:32Z     an instant (shorter forms are their start; without an offset it is UTC)
    now, @421, tag:v1        the newest moment, right after event 421, the moment of a tag

`ls history/` shows some moments at which something had changed; any other is there as well: name it. What lies before the
first event is not there: a project that is two minutes old has no `5m-ago`.

## Six examples

    cat {views}history/5m-ago/src/a.py
    diff -r {views}history/5m-ago/src {here}src
    cp {views}history/5m-ago/src/a.py {here}src/a.py
    ls -lt {views}versions/src/a.py
    lighthousefs log {target}
    getfattr --only-values -n user.lighthouse.agent {here}src/a.py

A file as it was; what changed in five minutes; taking an old state back; a file's versions; what happened, newest first;
who changed a file last (also .session, .event, .version, and .hash, its BLAKE3 digest).

## Who am I, why was I refused

    cat {views}status/whoami
    cat {views}status/last-error

You work as agent `uid-N`, N your user id. `last-error` says why the daemon last refused you something. What you may do is decided
by owners and modes, as on any disk, and of that the kernel answers by itself; the past has those that it had. `events/` is
for the mount's owner, and for the group of the auditors if there is one.

## How to undo

Copy the old state over the new one: that is a new change, kept like all others. What was removed comes back like this:

    cp -a {views}history/5m-ago/src {here}src.old

To hold a moment while you look around, stand in it: `cd history/5m-ago`, or read its number: `readlink history/5m-ago`.
To keep it by a name: `ln -s ../history/5m-ago tags/v1`. `ls tags/v1/` is the project then.
"""


def readme(layout: Layout) -> bytes:
    """Text for people and agents who find themselves in a mount."""
    in_root = layout is Layout.PROJECT
    views = f"{VIEWS_NAME}/" if in_root else ""
    names = {"pad": "history/@421/", "pad2": "history/5m-ago/", "pad3": "events/", "pad4": "status/"}
    names |= {"pad5": "versions/src/a.py/", "pad6": "tags/"}
    width = max(24, *(len(views + name) + 2 for name in names.values()))
    pads = {key: " " * (width - len(views + name)) for key, name in names.items()}
    here = "" if in_root else "current/"
    return _TEXT.format(
        project=("./" if in_root else "current/").ljust(width), views=views, here=here, target=".", **pads
    ).encode()
