"""What an event does to the tables: the one function that changes derived state, live, in recovery and in a rebuild.

Deterministic: it sees the event, its seq and the state, never a clock or a random number. mtime and ctime come from the
event's own time, as a local file system would take them from the machine's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lighthousefs.domain import events as e
from lighthousefs.domain.decide import CAPABILITY
from lighthousefs.domain.state import Entry, Inode, State, TagRow
from lighthousefs.errors import Damaged
from lighthousefs.ids import payload_id


def apply(state: State, seq: int, event: e.Event) -> None:
    """Change `state` as event `seq` says.

    Raises Damaged if the event does not fit the state: then log and tables are not of one piece.
    """
    state.record(seq, event)
    _EFFECTS[event.type](state, seq, event)


def _expect_inode(state: State, seq: int, ino: int) -> Inode:
    row = state.inode(ino)
    if row is None:
        raise Damaged(f"event {seq}", f"inode {ino} is not there")
    return row


def _expect_entry(state: State, seq: int, parent: int, name: bytes, ino: int) -> Entry:
    entry = state.entry(parent, name)
    if entry is None or entry.ino != ino:
        raise Damaged(f"event {seq}", f"{name!r} in folder {parent} is not inode {ino}")
    return entry


def _store_created(state: State, seq: int, event: e.Event) -> None:
    f: e.StoreCreated = event.fields
    root = Inode(seq, seq, 0, 0, 0, *(event.time,) * 3, f.mode, f.uid, f.gid, 2, 0, f.root, b"", b"")
    state.take_ino(f.root)
    state.put_inode(seq, f.root, root, None, event.type)


def _created(
    state: State, seq: int, event: e.Event, mode: int, *, size: int = 0, body: int = 0, target: bytes = b""
) -> None:
    f = event.fields
    links = 2 if isinstance(f, e.DirectoryCreated) else 1
    times = (event.time,) * 3
    row = Inode(seq, body or seq, 0, size, 0, *times, mode, f.uid, f.gid, links, 0, f.parent, f.name, target)
    state.take_ino(f.ino)
    state.put_inode(seq, f.ino, row, None, event.type)
    state.put_entry(seq, f.parent, f.name, f.ino, None)
    state.touch_folder(seq, f.parent, event.time, links - 1, event.type)


def _file_created(state: State, seq: int, event: e.Event) -> None:
    _created(state, seq, event, event.fields.mode)


def _symlink_created(state: State, seq: int, event: e.Event) -> None:
    target = event.fields.target
    _created(state, seq, event, 0o120777, size=len(target), target=target)


def _node_created(state: State, seq: int, event: e.Event) -> None:
    # A device's row keeps its number where a file's row keeps its body; FIFOs and sockets have 0 there.
    f: e.NodeCreated = event.fields
    row = Inode(seq, f.device, 0, 0, 0, *(event.time,) * 3, f.mode, f.uid, f.gid, 1, 0, f.parent, f.name, b"")
    state.take_ino(f.ino)
    state.put_inode(seq, f.ino, row, None, event.type)
    state.put_entry(seq, f.parent, f.name, f.ino, None)
    state.touch_folder(seq, f.parent, event.time, 0, event.type)


def _clear_capability(state: State, seq: int, ino: int, row: Inode, cleared: bool) -> int:
    """Drops the capability if the event says so; how many attributes are left."""
    if not cleared:
        return row.xattrs
    state.drop_xattr(seq, ino, CAPABILITY)
    return row.xattrs - 1


def _written(state: State, seq: int, event: e.Event) -> None:
    f: e.Written = event.fields
    old = _expect_inode(state, seq, f.ino)
    filled = state.place(seq, old, f.offset, f.length, payload_id(seq, 0))
    end = f.offset + f.length
    new = Inode(
        seq,
        old.body,
        old.cut,
        end if end > old.size else old.size,
        old.allocated + filled,
        old.atime,
        event.time,
        event.time,
        old.mode if f.mode is None else f.mode,
        old.uid,
        old.gid,
        old.nlink,
        _clear_capability(state, seq, f.ino, old, f.capability_cleared),
        old.parent,
        old.name,
        old.target,
        old.changes + 1,
    )
    state.put_inode(seq, f.ino, new, old, event.type)
    state.open_write(f.ino, event.session, seq)


def _truncated(state: State, seq: int, event: e.Event) -> None:
    f: e.Truncated = event.fields
    old = _expect_inode(state, seq, f.ino)
    body, cut, changes = old.body, old.cut, old.changes + 1
    if f.size == 0:
        body, cut, changes = seq, 0, 0
    elif f.size < old.size:
        state.cut_body(seq, old.body, f.size)
        cut = seq
    new = old._replace(
        since=seq,
        body=body,
        cut=cut,
        size=f.size,
        allocated=min(old.allocated, f.size),
        mtime=event.time,
        ctime=event.time,
        mode=old.mode if f.mode is None else f.mode,
        xattrs=_clear_capability(state, seq, f.ino, old, f.capability_cleared),
        changes=changes,
    )
    state.put_inode(seq, f.ino, new, old, event.type)
    state.open_write(f.ino, event.session, seq)


def _lose_name(state: State, seq: int, event: e.Event, ino: int, parent: int, name: bytes, fate: str | None) -> None:
    """The inode's side of losing (parent, name)."""
    old = _expect_inode(state, seq, ino)
    if fate == "gone":
        state.drop_inode(seq, ino, old, event.type)
        return
    new = old._replace(since=seq, nlink=old.nlink - 1, ctime=event.time)
    if fate == "held":
        state.hold(ino)
    elif not state.drop_link(seq, ino, parent, name):
        # The name in the row is the one that went: one of the others takes its place.
        other = state.other_link(ino)
        if other is None:
            raise Damaged(f"event {seq}", f"inode {ino} has {old.nlink} names and only one is known")
        state.drop_link(seq, ino, *other)
        new = new._replace(parent=other[0], name=other[1])
    state.put_inode(seq, ino, new, old, event.type)


def _move_name(
    state: State, seq: int, event: e.Event, ino: int, old_name: tuple[int, bytes], new_name: tuple[int, bytes]
) -> None:
    """The inode's side of a rename."""
    old = _expect_inode(state, seq, ino)
    if (old.parent, old.name) == old_name:
        new = old._replace(since=seq, ctime=event.time, parent=new_name[0], name=new_name[1])
    elif state.drop_link(seq, ino, *old_name):
        new = old._replace(since=seq, ctime=event.time)
        state.put_link(seq, ino, *new_name)
    else:
        raise Damaged(f"event {seq}", f"inode {ino} has no name {old_name[1]!r} in folder {old_name[0]}")
    state.put_inode(seq, ino, new, old, event.type)


def _renamed(state: State, seq: int, event: e.Event) -> None:
    f: e.Renamed = event.fields
    entry = _expect_entry(state, seq, f.parent, f.name, f.ino)
    target = _expect_entry(state, seq, f.new_parent, f.new_name, f.replaced) if f.replaced else None
    moved_is_dir = _expect_inode(state, seq, f.ino).is_dir
    other_is_dir = _expect_inode(state, seq, f.replaced).is_dir if f.replaced else False
    if f.exchange and target is not None:
        state.put_entry(seq, f.parent, f.name, f.replaced, entry)
        state.put_entry(seq, f.new_parent, f.new_name, f.ino, target)
        _move_name(state, seq, event, f.replaced, (f.new_parent, f.new_name), (f.parent, f.name))
    else:
        if f.replaced:
            _lose_name(state, seq, event, f.replaced, f.new_parent, f.new_name, f.fate)
        state.drop_entry(seq, f.parent, f.name, entry)
        state.put_entry(seq, f.new_parent, f.new_name, f.ino, target)
    _move_name(state, seq, event, f.ino, (f.parent, f.name), (f.new_parent, f.new_name))
    leaving = -moved_is_dir + (other_is_dir if f.exchange else 0)
    coming = moved_is_dir - other_is_dir
    if f.parent == f.new_parent:
        state.touch_folder(seq, f.parent, event.time, leaving + coming, event.type)
    else:
        state.touch_folder(seq, f.parent, event.time, leaving, event.type)
        state.touch_folder(seq, f.new_parent, event.time, coming, event.type)


def _linked(state: State, seq: int, event: e.Event) -> None:
    f: e.Linked = event.fields
    old = _expect_inode(state, seq, f.ino)
    state.put_entry(seq, f.parent, f.name, f.ino, None)
    state.put_link(seq, f.ino, f.parent, f.name)
    state.put_inode(seq, f.ino, old._replace(since=seq, nlink=old.nlink + 1, ctime=event.time), old, event.type)
    state.touch_folder(seq, f.parent, event.time, 0, event.type)


def _unlinked(state: State, seq: int, event: e.Event) -> None:
    f: e.Unlinked = event.fields
    entry = _expect_entry(state, seq, f.parent, f.name, f.ino)
    state.drop_entry(seq, f.parent, f.name, entry)
    _lose_name(state, seq, event, f.ino, f.parent, f.name, f.fate)
    state.touch_folder(seq, f.parent, event.time, 0, event.type)


def _directory_removed(state: State, seq: int, event: e.Event) -> None:
    f: e.DirectoryRemoved = event.fields
    entry = _expect_entry(state, seq, f.parent, f.name, f.ino)
    state.drop_entry(seq, f.parent, f.name, entry)
    state.drop_inode(seq, f.ino, _expect_inode(state, seq, f.ino), event.type)
    state.touch_folder(seq, f.parent, event.time, -1, event.type)


def _inode_released(state: State, seq: int, event: e.Event) -> None:
    ino = event.fields.ino
    state.release(ino)
    state.drop_inode(seq, ino, _expect_inode(state, seq, ino), event.type)


def _attributes_changed(state: State, seq: int, event: e.Event) -> None:
    f: e.AttributesChanged = event.fields
    old = _expect_inode(state, seq, f.ino)
    new = Inode(
        seq,
        old.body,
        old.cut,
        old.size,
        old.allocated,
        old.atime if f.atime is None else f.atime,
        old.mtime if f.mtime is None else f.mtime,
        event.time,
        old.mode if f.mode is None else f.mode,
        old.uid if f.uid is None else f.uid,
        old.gid if f.gid is None else f.gid,
        old.nlink,
        _clear_capability(state, seq, f.ino, old, f.capability_cleared),
        old.parent,
        old.name,
        old.target,
        old.changes,
    )
    state.put_inode(seq, f.ino, new, old, event.type)


def _xattr_set(state: State, seq: int, event: e.Event) -> None:
    f: e.XattrSet = event.fields
    old = _expect_inode(state, seq, f.ino)
    added = state.xattr(f.ino, f.name) is None
    state.put_xattr(seq, f.ino, f.name, f.value)
    mode = old.mode if f.mode is None else f.mode
    new = old._replace(since=seq, ctime=event.time, mode=mode, xattrs=old.xattrs + added)
    state.put_inode(seq, f.ino, new, old, event.type)


def _xattr_removed(state: State, seq: int, event: e.Event) -> None:
    f: e.XattrRemoved = event.fields
    old = _expect_inode(state, seq, f.ino)
    state.drop_xattr(seq, f.ino, f.name)
    mode = old.mode if f.mode is None else f.mode
    new = old._replace(since=seq, ctime=event.time, mode=mode, xattrs=old.xattrs - 1)
    state.put_inode(seq, f.ino, new, old, event.type)


def _version_closed(state: State, seq: int, event: e.Event) -> None:
    f: e.VersionClosed = event.fields
    old = _expect_inode(state, seq, f.ino)
    if f.body is not None and (f.body, f.changes) != (old.body, old.changes):
        told = f"inode {f.ino} has {f.changes} changes since event {f.body}"
        raise Damaged(f"event {seq}", f"{told}, and by the events before it {old.changes} since {old.body}")
    state.close_version(seq, event)


def _inodes_reserved(state: State, _seq: int, event: e.Event) -> None:
    state.reserve(event.fields.first, event.fields.amount)


def _agent_registered(state: State, _seq: int, event: e.Event) -> None:
    state.register_agent(*event.fields)


def _session_started(state: State, _seq: int, event: e.Event) -> None:
    state.start_session(*event.fields)


def _correlation_begun(state: State, _seq: int, event: e.Event) -> None:
    state.begin_correlation(*event.fields)


def _writer_joined(state: State, _seq: int, event: e.Event) -> None:
    state.join_writer(event.fields.number, event.fields.writer_id)


def apply_tag(state: State, seq: int, event: e.Event) -> None:
    """The effect of `tagged` and `untagged`. A tag that is renamed stays the one that it was."""
    f: e.Tagged | e.Untagged = event.fields
    if isinstance(f, e.Untagged) or f.was is not None:
        name = f.name if isinstance(f, e.Untagged) else str(f.was)
        row = state.tag(name)
        if row is None or row.moment != f.moment:
            raise Damaged(f"event {seq}", f"there is no tag {name} of event {f.moment}")
        state.drop_tag(name)
        if isinstance(f, e.Tagged):
            state.put_tag(f.name, row)
    else:
        state.put_tag(f.name, TagRow(f.moment, seq))


def _nothing(_state: State, _seq: int, _event: e.Event) -> None:
    """Told for the record; no table depends on it."""


_EFFECTS: dict[str, Callable[[State, int, Any], None]] = {
    "store-created": _store_created,
    "writer-joined": _writer_joined,
    "inodes-reserved": _inodes_reserved,
    "file-created": _file_created,
    "directory-created": _file_created,
    "symlink-created": _symlink_created,
    "node-created": _node_created,
    "written": _written,
    "truncated": _truncated,
    "renamed": _renamed,
    "linked": _linked,
    "unlinked": _unlinked,
    "directory-removed": _directory_removed,
    "inode-released": _inode_released,
    "attributes-changed": _attributes_changed,
    "xattr-set": _xattr_set,
    "xattr-removed": _xattr_removed,
    "version-closed": _version_closed,
    "agent-registered": _agent_registered,
    "session-started": _session_started,
    "mounted": _nothing,
    "unmounted": _nothing,
    "recovered": _nothing,
    "correlation-begun": _correlation_begun,
    "damage-found": _nothing,
    "repaired": _nothing,
    "tagged": apply_tag,
    "untagged": apply_tag,
    "verified": _nothing,
    "backed-up": _nothing,
    "backup-restored": _nothing,
}
