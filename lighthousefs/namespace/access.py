"""What changes an access control list, or follows from one, as commands that belong together.

The lists are kept as the extended attributes that the kernel calls them by. It checks who may set them and that they are
well formed; that mode and list say the same, and what is handed down to new files, is left to us (acl(5)).
"""

from __future__ import annotations

import errno
import stat

from lighthousefs.domain import acl
from lighthousefs.domain import commands as c
from lighthousefs.domain.state import Facts
from lighthousefs.namespace.found import refuse

Making = c.CreateFile | c.CreateDirectory | c.CreateNode


def _stored(facts: Facts, ino: int, name: bytes) -> bytes | None:
    row = facts.inode(ino)
    return facts.xattr(ino, name) if row is not None and row.xattrs else None


def default_list(facts: Facts, folder: int) -> acl.Acl:
    """What the folder hands down; () if nothing."""
    stored = _stored(facts, folder, acl.DEFAULT)
    return () if stored is None else acl.parse(stored)


def with_inherited(facts: Facts, making: Making, default: acl.Acl, ino: int) -> tuple[Making, list[c.Command]]:
    """The command with the mode that `default` leaves, and what sets the lists of the inode `ino` that it makes.

    Until its list is set, what is made lets nobody in whom the list keeps out.
    """
    access, mode = acl.inherited(default, making.mode)
    lists: list[c.Command] = []
    if not acl.is_minimal(access):
        folder = facts.inode(making.parent)
        # The list comes with a mode of its own, which is not to take back the set-group-id that the folder hands down.
        group_bit = folder.mode & stat.S_ISGID if folder is not None and isinstance(making, c.CreateDirectory) else 0
        lists.append(c.SetXattr(ino, acl.ACCESS, acl.pack(access), mode | group_bit))
        mode = acl.without_list(access, mode)
    if isinstance(making, c.CreateDirectory):
        lists.append(c.SetXattr(ino, acl.DEFAULT, acl.pack(default)))
    return making._replace(mode=mode), lists


def chmod_of_list(facts: Facts, ino: int, mode: int) -> c.SetXattr | None:
    """A chmod of an inode that has a list; None for one that has none."""
    stored = _stored(facts, ino, acl.ACCESS)
    if stored is None:
        return None
    return c.SetXattr(ino, acl.ACCESS, acl.pack(acl.with_mode(acl.parse(stored), mode)), mode)


def access_list_set(facts: Facts, ino: int, name: bytes, value: bytes, standing: c.Standing) -> list[c.Command]:
    """What setting a list changes. A list that says no more than a mode is kept as the mode alone."""
    row = facts.inode(ino)
    if row is None:
        raise refuse(errno.ESTALE)
    entries = acl.parse(value)
    if not entries:
        return access_list_removed(facts, ino, name)
    if name == acl.DEFAULT:
        if not row.is_dir:
            raise refuse(errno.EACCES)
        return [c.SetXattr(ino, name, acl.pack(entries))]
    mode = row.mode & ~0o777 | acl.mode_of(entries)
    if not standing.member:
        mode &= ~stat.S_ISGID
    if not acl.is_minimal(entries):
        return [c.SetXattr(ino, name, acl.pack(entries), mode)]
    if _stored(facts, ino, name) is None:
        return [c.ChangeAttributes(ino, mode=mode)]
    return [c.RemoveXattr(ino, name, mode)]


def access_list_removed(facts: Facts, ino: int, name: bytes) -> list[c.Command]:
    """Nothing, where there is no list: taking away what is not there is no error (removexattr of a local disk)."""
    return [] if _stored(facts, ino, name) is None else [c.RemoveXattr(ino, name)]
