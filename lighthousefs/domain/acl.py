"""POSIX access control lists, purely: what they grant, and how they and a mode follow one another.

A value is what the kernel passes as `system.posix_acl_access` and `system.posix_acl_default` (linux/posix_acl_xattr.h):
version u32 = 2, then entries of tag u16, permissions u16, id u32, little-endian, in order of tags. The rules are those of
acl(5), after the draft POSIX 1003.1e, number 17: the group bits of a file's mode are its mask, if it has one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from struct import Struct
from typing import NamedTuple

from lighthousefs.domain.permission import Guarded
from lighthousefs.errors import Refused

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
NAMES = (ACCESS, DEFAULT)

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
_VERSION = 2
_HEADER = Struct("<I")
_ENTRY = Struct("<HHI")
_NO_ID = 0xFFFF_FFFF
_PERMISSIONS = 0o7
_ONE_OF_EACH = (USER_OBJ, GROUP_OBJ, OTHER)


class AclEntry(NamedTuple):
    """`permissions` are rwx as in one digit of a mode; `id` is a uid or gid, or what stands for none."""

    tag: int
    permissions: int
    id: int


Acl = tuple[AclEntry, ...]


def parse(value: bytes) -> Acl:
    """The entries of a list; () for one that takes a list away.

    Raises Refused (EINVAL) for what is no list that acl(5) allows.
    """
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        raise _invalid(f"an access control list of {len(value)} bytes")
    if _HEADER.unpack_from(value)[0] != _VERSION:
        raise _invalid("an access control list of another version")
    entries = tuple(AclEntry(*fields) for fields in _ENTRY.iter_unpack(value[_HEADER.size :]))
    if entries:
        _check(entries)
    return entries


def pack(entries: Acl) -> bytes:
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)


def _invalid(what: str) -> Refused:
    return Refused(errno.EINVAL, f"{os.strerror(errno.EINVAL)}: {what}")


def _check(entries: Acl) -> None:
    tags = [entry.tag for entry in entries]
    known = {*_ONE_OF_EACH, USER, GROUP, MASK}
    in_order = tags == sorted(tags) and set(tags) <= known
    single = all(tags.count(tag) == 1 for tag in _ONE_OF_EACH) and tags.count(MASK) <= 1
    masked = MASK in tags or not {USER, GROUP} & set(tags)
    if not (in_order and single and masked) or any(entry.permissions & ~_PERMISSIONS for entry in entries):
        raise _invalid("an access control list out of order")


def is_minimal(entries: Acl) -> bool:
    """It says no more than the nine bits of a mode can."""
    return len(entries) == len(_ONE_OF_EACH)


def mode_of(entries: Acl) -> int:
    """The nine permission bits that a file with this list shows."""
    bits = {entry.tag: entry.permissions for entry in entries if entry.tag not in (USER, GROUP)}
    return bits[USER_OBJ] << 6 | bits.get(MASK, bits[GROUP_OBJ]) << 3 | bits[OTHER]


def without_list(entries: Acl, mode: int) -> int:
    """The mode by which nobody may more than by the list: its group bits are what the owning group may."""
    group = next(entry.permissions for entry in entries if entry.tag == GROUP_OBJ)
    return mode & (group << 3 | ~0o070)


def with_mode(entries: Acl, mode: int) -> Acl:
    """The list after a chmod to `mode`: owner, mask (the group, where there is no mask) and others."""
    middle = MASK if any(entry.tag == MASK for entry in entries) else GROUP_OBJ
    bits = {USER_OBJ: mode >> 6 & 7, middle: mode >> 3 & 7, OTHER: mode & 7}
    return tuple(entry._replace(permissions=bits.get(entry.tag, entry.permissions)) for entry in entries)


def inherited(default: Acl, mode: int) -> tuple[Acl, int]:
    """The access list and the mode of what is made with `mode` in a folder with this default list.

    Neither grants more than both allow.
    """
    allowed = mode_of(default) & mode & 0o777
    return with_mode(default, allowed), mode & ~0o777 | allowed


def permits(row: Guarded, wanted: int, uid: int, groups: Collection[int], access: Acl = ()) -> bool:
    """Whether the user may do all of `wanted` (rwx as 4, 2, 1) to what `row` describes, as acl(5) checks it; root may.

    Root's x on a file needs some x in the mode, which nobody asks here for.
    """
    if uid == 0:
        return True
    if uid == row.uid:
        return _grants(row.mode >> 6, wanted)
    if not access or not row.mode & 0o070:
        # Linux does not look at a list where the mode gives the group nothing: named users are others then.
        return _grants(row.mode >> (3 if row.gid in groups else 0), wanted)
    # Right inside a batch that changes both, list and mode may differ for a moment: then the list counts.
    mask = next((entry.permissions for entry in access if entry.tag == MASK), _PERMISSIONS)
    named = [entry for entry in access if entry.tag == USER and entry.id == uid]
    if named:
        return _grants(named[0].permissions & mask, wanted)
    matching = [entry.permissions for entry in access if _is_about(entry, row, groups)]
    if matching:
        return any(_grants(permissions & mask, wanted) for permissions in matching)
    return _grants(next(entry.permissions for entry in access if entry.tag == OTHER), wanted)


def _is_about(entry: AclEntry, row: Guarded, groups: Collection[int]) -> bool:
    """A group entry that is about one of the user's groups."""
    return (entry.tag == GROUP_OBJ and row.gid in groups) or (entry.tag == GROUP and entry.id in groups)


def _grants(permissions: int, wanted: int) -> bool:
    return permissions & wanted == wanted
