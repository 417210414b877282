"""Yes or no: `decide(facts, command)` gives the fields of the one event the command becomes, or refuses it.

Pure: the same facts and command give the same answer, and nothing is changed. None means accepted and nothing to do
(an unchanged chmod is no event). A refusal carries the errno that a local file system would give.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from typing import Any

from blake3 import blake3

from lighthousefs import limits
from lighthousefs.domain import commands as c
from lighthousefs.domain import events as e
from lighthousefs.domain.state import Entry, Facts, Inode, TagRow
from lighthousefs.errors import Refused
from lighthousefs.ids import ROOT_INO

CAPABILITY = b"security.capability"
_SUID_SGID = stat.S_ISUID | stat.S_ISGID
_TAG_NAME = re.compile(limits.TAG_NAME)


def decide(facts: Facts, command: c.Command) -> Any:
    """The fields of the event that `command` becomes, or None if it changes nothing.

    Raises Refused, with the errno for the caller; then nothing has happened.
    """
    return _DECISIONS[type(command)](facts, command)


def _refuse(number: int, what: str) -> Refused:
    return Refused(number, f"{os.strerror(number)}: {what}")


def _told(name: bytes) -> str:
    return repr(name.decode("utf-8", "backslashreplace"))


def _inode(facts: Facts, ino: int) -> Inode:
    row = facts.inode(ino)
    if row is None:
        raise _refuse(errno.ESTALE, f"inode {ino}")
    return row


def _folder(facts: Facts, ino: int) -> Inode:
    row = facts.inode(ino)
    if row is None:
        raise _refuse(errno.ENOENT, f"folder {ino}")
    if not row.is_dir:
        raise _refuse(errno.ENOTDIR, f"inode {ino}")
    return row


def _file(facts: Facts, ino: int) -> Inode:
    row = _inode(facts, ino)
    if not row.is_file:
        raise _refuse(errno.EISDIR if row.is_dir else errno.EINVAL, f"inode {ino}")
    return row


def _check_name(name: bytes) -> None:
    if len(name) > limits.NAME_BYTES_MAX:
        raise _refuse(errno.ENAMETOOLONG, f"{len(name)} bytes")
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise _refuse(errno.EINVAL, _told(name))


def _new_name(facts: Facts, parent: int, name: bytes) -> Inode:
    """The folder in which `name` may be made."""
    _check_name(name)
    folder = _folder(facts, parent)
    if facts.entry(parent, name) is not None:
        raise _refuse(errno.EEXIST, _told(name))
    return folder


def _next_ino(facts: Facts) -> int:
    ino = facts.next_ino
    if ino >= facts.reserved_until:
        raise _refuse(errno.ENOSPC, f"all {limits.INO_MAX} inode numbers are used")
    return ino


def _existing(facts: Facts, parent: int, name: bytes) -> tuple[Entry, Inode]:
    _folder(facts, parent)
    if len(name) > limits.NAME_BYTES_MAX:
        raise _refuse(errno.ENAMETOOLONG, f"{len(name)} bytes")
    entry = facts.entry(parent, name)
    if entry is None:
        raise _refuse(errno.ENOENT, _told(name))
    return entry, _inode(facts, entry.ino)


def _group(folder: Inode, gid: int) -> int:
    """A set-group-id folder hands its group down."""
    return folder.gid if folder.mode & stat.S_ISGID else gid


def _create_file(facts: Facts, command: c.CreateFile) -> e.FileCreated:
    folder = _new_name(facts, command.parent, command.name)
    mode = stat.S_IFREG | stat.S_IMODE(command.mode)
    group = _group(folder, command.gid)
    return e.FileCreated(command.parent, command.name, _next_ino(facts), mode, command.uid, group)


def _create_directory(facts: Facts, command: c.CreateDirectory) -> e.DirectoryCreated:
    folder = _new_name(facts, command.parent, command.name)
    if folder.nlink >= limits.LINKS_MAX:
        raise _refuse(errno.EMLINK, f"folder {command.parent}")
    mode = stat.S_IFDIR | stat.S_IMODE(command.mode) | (folder.mode & stat.S_ISGID)
    group = _group(folder, command.gid)
    return e.DirectoryCreated(command.parent, command.name, _next_ino(facts), mode, command.uid, group)


def _create_symlink(facts: Facts, command: c.CreateSymlink) -> e.SymlinkCreated:
    folder = _new_name(facts, command.parent, command.name)
    if not command.target:
        raise _refuse(errno.ENOENT, "an empty target")
    if len(command.target) > limits.TARGET_BYTES_MAX:
        raise _refuse(errno.ENAMETOOLONG, f"a target of {len(command.target)} bytes")
    group = _group(folder, command.gid)
    return e.SymlinkCreated(command.parent, command.name, _next_ino(facts), command.uid, group, command.target)


def _create_node(facts: Facts, command: c.CreateNode) -> e.NodeCreated | e.FileCreated:
    if stat.S_ISREG(command.mode):
        # mknod of a regular file is what old programs do in place of creat.
        return _create_file(facts, c.CreateFile(command.parent, command.name, command.mode, command.uid, command.gid))
    folder = _new_name(facts, command.parent, command.name)
    kind = stat.S_IFMT(command.mode)
    if kind not in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        raise _refuse(errno.EINVAL, f"a node of mode {command.mode:o}")
    device = command.device if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    group = _group(folder, command.gid)
    return e.NodeCreated(command.parent, command.name, _next_ino(facts), command.mode, command.uid, group, device)


def _mode_after_write(row: Inode, standing: c.Standing) -> int | None:
    """The mode without what the writer may not leave set, None if nothing changes (write(2), inode(7))."""
    if standing.privileged or not row.mode & _SUID_SGID:
        return None
    cleared = row.mode & ~stat.S_ISUID
    if row.mode & stat.S_IXGRP or not standing.member:
        cleared &= ~stat.S_ISGID
    return cleared if cleared != row.mode else None


def _has_capability(facts: Facts, ino: int, row: Inode) -> bool:
    return row.xattrs > 0 and facts.xattr(ino, CAPABILITY) is not None


def _write(facts: Facts, command: c.Write) -> e.Written | None:
    row = _file(facts, command.ino)
    length = len(command.data)
    if length == 0:
        return None
    if length > limits.WRITE_BYTES_MAX:
        raise _refuse(errno.EINVAL, f"a single write of {length} bytes")
    offset = row.size if command.append else command.offset
    if offset < 0:
        raise _refuse(errno.EINVAL, f"offset {offset}")
    if offset + length > limits.FILE_BYTES_MAX:
        raise _refuse(errno.EFBIG, f"offset {offset}")
    digest = blake3(command.data).digest()
    mode = _mode_after_write(row, command.standing)
    capability = not command.standing.capability and _has_capability(facts, command.ino, row)
    return e.Written(
        command.ino, offset, command.append, e.DIGEST_BLAKE3, digest, length, mode, capability, command.base
    )


def _repeat(facts: Facts, command: c.Repeat) -> e.Written:
    _file(facts, command.ino)
    if not 0 < command.length <= limits.WRITE_BYTES_MAX or command.offset < 0:
        raise _refuse(errno.EINVAL, f"a single write of {command.length} bytes at {command.offset}")
    if command.offset + command.length > limits.FILE_BYTES_MAX:
        raise _refuse(errno.EFBIG, f"offset {command.offset}")
    return e.Written(
        command.ino, command.offset, False, e.DIGEST_BLAKE3, command.digest, command.length, None, False, 0
    )


def _truncate(facts: Facts, command: c.Truncate) -> e.Truncated:
    row = _file(facts, command.ino)
    if command.size < 0:
        raise _refuse(errno.EINVAL, f"size {command.size}")
    if command.size > limits.FILE_BYTES_MAX:
        raise _refuse(errno.EFBIG, f"size {command.size}")
    capability = not command.standing.capability and _has_capability(facts, command.ino, row)
    mode = _mode_after_write(row, command.standing)
    return e.Truncated(command.ino, command.size, mode, capability, command.base)


def _fate(facts: Facts, ino: int, row: Inode) -> e.Fate:
    if row.is_dir:
        return "gone"
    if row.nlink > 1:
        return "remains"
    return "held" if facts.is_open(ino) else "gone"


def _is_below(facts: Facts, folder: int, ancestor: int) -> bool:
    while folder != ROOT_INO:
        if folder == ancestor:
            return True
        folder = _inode(facts, folder).parent
    return ancestor == ROOT_INO


def _rename(facts: Facts, command: c.Rename) -> e.Renamed | None:
    _check_name(command.new_name)
    entry, row = _existing(facts, command.parent, command.name)
    new_folder = _folder(facts, command.new_parent)
    target = facts.entry(command.new_parent, command.new_name)
    if command.exchange and not command.replace:
        raise _refuse(errno.EINVAL, "exchange and no replacing at once")
    if command.exchange and target is None:
        raise _refuse(errno.ENOENT, _told(command.new_name))
    if target is not None and not command.replace:
        raise _refuse(errno.EEXIST, _told(command.new_name))
    replaced = _inode(facts, target.ino) if target is not None else None
    _check_loops(facts, command, entry, row, target, replaced)
    if target is not None and target.ino == entry.ino:
        # POSIX: two names of one file, renaming the one to the other does nothing.
        return None
    fate: e.Fate | None = None
    if replaced is not None and target is not None and not command.exchange:
        _check_replacing(facts, command, row, target, replaced)
        fate = _fate(facts, target.ino, replaced)
    crossing = row.is_dir and command.parent != command.new_parent and not (replaced is not None and replaced.is_dir)
    if crossing and new_folder.nlink >= limits.LINKS_MAX:
        raise _refuse(errno.EMLINK, f"folder {command.new_parent}")
    return e.Renamed(
        command.parent,
        command.name,
        command.new_parent,
        command.new_name,
        entry.ino,
        command.exchange,
        target.ino if target is not None else 0,
        fate,
    )


def _check_loops(
    facts: Facts, command: c.Rename, entry: Entry, row: Inode, target: Entry | None, replaced: Inode | None
) -> None:
    if command.parent == command.new_parent:
        return
    if row.is_dir and _is_below(facts, command.new_parent, entry.ino):
        raise _refuse(errno.EINVAL, f"{_told(command.name)} into itself")
    if replaced is not None and replaced.is_dir and target is not None and _is_below(facts, command.parent, target.ino):
        number = errno.EINVAL if command.exchange else errno.ENOTEMPTY
        raise _refuse(number, f"{_told(command.new_name)} holds {_told(command.name)}")


def _check_replacing(facts: Facts, command: c.Rename, row: Inode, target: Entry, replaced: Inode) -> None:
    if replaced.is_dir and not row.is_dir:
        raise _refuse(errno.EISDIR, _told(command.new_name))
    if row.is_dir and not replaced.is_dir:
        raise _refuse(errno.ENOTDIR, _told(command.new_name))
    if replaced.is_dir and not facts.is_empty(target.ino):
        raise _refuse(errno.ENOTEMPTY, _told(command.new_name))


def _link(facts: Facts, command: c.Link) -> e.Linked:
    row = _inode(facts, command.ino)
    if row.is_dir:
        raise _refuse(errno.EPERM, "a hard link to a folder")
    if row.nlink == 0:
        raise _refuse(errno.ENOENT, f"inode {command.ino} has lost its last name")
    _new_name(facts, command.parent, command.name)
    if row.nlink >= limits.LINKS_MAX:
        raise _refuse(errno.EMLINK, f"inode {command.ino}")
    return e.Linked(command.parent, command.name, command.ino)


def _unlink(facts: Facts, command: c.Unlink) -> e.Unlinked:
    entry, row = _existing(facts, command.parent, command.name)
    if row.is_dir:
        raise _refuse(errno.EISDIR, _told(command.name))
    return e.Unlinked(command.parent, command.name, entry.ino, _fate(facts, entry.ino, row))


def _remove_directory(facts: Facts, command: c.RemoveDirectory) -> e.DirectoryRemoved:
    entry, row = _existing(facts, command.parent, command.name)
    if not row.is_dir:
        raise _refuse(errno.ENOTDIR, _told(command.name))
    if not facts.is_empty(entry.ino):
        raise _refuse(errno.ENOTEMPTY, _told(command.name))
    return e.DirectoryRemoved(command.parent, command.name, entry.ino, "gone")


def _release_inode(facts: Facts, command: c.ReleaseInode) -> e.InodeReleased:
    row = _inode(facts, command.ino)
    if row.nlink:
        raise _refuse(errno.EBUSY, f"inode {command.ino} has names")
    return e.InodeReleased(command.ino)


def _new_mode(row: Inode, wanted: int | None) -> int | None:
    """The inode's mode with these bits, None if that is what it has."""
    mode = row.mode if wanted is None else stat.S_IFMT(row.mode) | stat.S_IMODE(wanted)
    return mode if mode != row.mode else None


def _change_attributes(facts: Facts, command: c.ChangeAttributes) -> e.AttributesChanged | None:
    row = _inode(facts, command.ino)
    mode = _new_mode(row, command.mode)
    uid = command.uid if command.uid is not None and command.uid != row.uid else None
    gid = command.gid if command.gid is not None and command.gid != row.gid else None
    for time in (command.atime, command.mtime):
        if time is not None and not limits.TIME_MIN_NS <= time <= limits.TIME_MAX_NS:
            raise _refuse(errno.EINVAL, f"a time of {time} ns")
    if (mode, uid, gid, command.atime, command.mtime) == (None,) * 5:
        return None
    owned_anew = (uid is not None or gid is not None) and not row.is_dir
    capability = owned_anew and _has_capability(facts, command.ino, row)
    return e.AttributesChanged(command.ino, mode, uid, gid, command.atime, command.mtime, capability)


def _set_xattr(facts: Facts, command: c.SetXattr) -> e.XattrSet | None:
    row = _inode(facts, command.ino)
    if not 0 < len(command.name) <= limits.NAME_BYTES_MAX:
        raise _refuse(errno.ERANGE, f"an attribute name of {len(command.name)} bytes")
    if len(command.value) > limits.XATTR_VALUE_BYTES_MAX:
        raise _refuse(errno.E2BIG, f"an attribute of {len(command.value)} bytes")
    old = facts.xattr(command.ino, command.name) if row.xattrs else None
    mode = _new_mode(row, command.mode)
    if old == command.value and mode is None:
        return None
    if old is None and row.xattrs >= limits.XATTRS_MAX:
        raise _refuse(errno.ENOSPC, f"inode {command.ino} has {row.xattrs} attributes")
    return e.XattrSet(command.ino, command.name, command.value, mode)


def _remove_xattr(facts: Facts, command: c.RemoveXattr) -> e.XattrRemoved:
    row = _inode(facts, command.ino)
    if not row.xattrs or facts.xattr(command.ino, command.name) is None:
        raise _refuse(errno.ENODATA, _told(command.name))
    return e.XattrRemoved(command.ino, command.name, _new_mode(row, command.mode))


def _close_version(facts: Facts, command: c.CloseVersion) -> e.VersionClosed:
    row = _inode(facts, command.ino)
    body, changes = (row.body, row.changes) if row.is_file else (None, None)
    return e.VersionClosed(command.ino, command.first, command.written, command.how, body, changes)


def tag_name(name: str | bytes) -> str:
    """The name, if a tag can have it. Raises Refused (EINVAL) for any other."""
    text = os.fsdecode(name) if isinstance(name, bytes) else name
    if not _TAG_NAME.fullmatch(text):
        raise _refuse(errno.EINVAL, limits.TAG_NAME_TOLD)
    return text


def _existing_tag(facts: Facts, name: str) -> TagRow:
    row = facts.tag(tag_name(name))
    if row is None:
        raise _refuse(errno.ENOENT, f"there is no tag {name}")
    return row


def _require_free_tag(facts: Facts, name: str) -> None:
    if (row := facts.tag(tag_name(name))) is not None:
        raise _refuse(errno.EEXIST, f"the tag {name} stands for @{row.moment}")


def _tag(facts: Facts, command: c.Tag) -> e.Tagged:
    _require_free_tag(facts, command.name)
    if not 1 <= command.moment <= facts.newest():
        raise _refuse(errno.EINVAL, f"there is no event {command.moment}")
    return e.Tagged(command.name, command.moment, None)


def _rename_tag(facts: Facts, command: c.RenameTag) -> e.Tagged:
    row = _existing_tag(facts, command.name)
    _require_free_tag(facts, command.new_name)
    return e.Tagged(command.new_name, row.moment, command.name)


def _untag(facts: Facts, command: c.Untag) -> e.Untagged:
    return e.Untagged(command.name, _existing_tag(facts, command.name).moment)


def _announce(_facts: Facts, command: c.Announce) -> Any:
    return command.fields


_DECISIONS: dict[type[Any], Callable[[Facts, Any], Any]] = {
    c.CreateFile: _create_file,
    c.CreateDirectory: _create_directory,
    c.CreateSymlink: _create_symlink,
    c.CreateNode: _create_node,
    c.Write: _write,
    c.Repeat: _repeat,
    c.Truncate: _truncate,
    c.Rename: _rename,
    c.Link: _link,
    c.Unlink: _unlink,
    c.RemoveDirectory: _remove_directory,
    c.ReleaseInode: _release_inode,
    c.ChangeAttributes: _change_attributes,
    c.SetXattr: _set_xattr,
    c.RemoveXattr: _remove_xattr,
    c.CloseVersion: _close_version,
    c.Tag: _tag,
    c.RenameTag: _rename_tag,
    c.Untag: _untag,
    c.Announce: _announce,
}
