# ruff: noqa: PTH106, PTH108, PTH109
# Names are bytes here, which pathlib has not.
"""Steps on names and attributes. What an action returns must be alike on both sides."""

from __future__ import annotations

import os
import stat
from typing import Any

from actor import Actor, folder_of, seen_of, told
from difference import RENAME_WHITEOUT, rename_with_flags
from steps import Data, Where, contents
from system_calls import (
    AT_SYMLINK_NOFOLLOW,
    NOW,
    Entry,
    access_with_flags,
    chmod_with_flags,
    entries,
    link_descriptor,
    set_times,
)

# Names


def do_mkdir(a: Actor, where: Where, mode: int) -> None:
    path, folder = a.at(where)
    os.mkdir(path, mode, dir_fd=folder_of(folder))


def do_mknod(a: Actor, where: Where, mode: int, device: int) -> None:
    path, folder = a.at(where)
    os.mknod(path, mode, device, dir_fd=folder_of(folder))


def do_symlink(a: Actor, target: bytes, where: Where) -> None:
    path, folder = a.at(where)
    os.symlink(target, path, dir_fd=folder_of(folder))


def do_readlink(a: Actor, where: Where) -> bytes:
    path, folder = a.at(where)
    return os.readlink(path, dir_fd=folder_of(folder))


def do_link(a: Actor, old: Where, new: Where, follow: bool) -> None:
    old_path, old_folder = a.at(old)
    new_path, new_folder = a.at(new)
    os.link(
        old_path, new_path, src_dir_fd=folder_of(old_folder), dst_dir_fd=folder_of(new_folder), follow_symlinks=follow
    )


def do_link_slot(a: Actor, slot: int, where: Where) -> None:
    path, folder = a.at(where)
    link_descriptor(a.slot(slot).descriptor, folder, path)


def do_unlink(a: Actor, where: Where) -> None:
    path, folder = a.at(where)
    os.unlink(path, dir_fd=folder_of(folder))


def do_rmdir(a: Actor, where: Where) -> None:
    path, folder = a.at(where)
    os.rmdir(path, dir_fd=folder_of(folder))


def do_rename(a: Actor, old: Where, new: Where, flags: int) -> bool:
    """Returns whether both were names of one file: then nothing happens, whatever the flags are."""
    old_path, old_folder = a.at(old)
    new_path, new_folder = a.at(new)
    same = flags & RENAME_WHITEOUT and _is_same(old_path, old_folder, new_path, new_folder)
    rename_with_flags(old_path, new_path, flags, old_folder=old_folder, new_folder=new_folder)
    return bool(same)


def _is_same(path: bytes, folder: int, other_path: bytes, other_folder: int) -> bool:
    try:
        one = os.lstat(path, dir_fd=folder_of(folder))
        return os.path.samestat(one, os.lstat(other_path, dir_fd=folder_of(other_folder)))
    except OSError:
        return False


def do_clear(a: Actor, where: Where) -> int:
    """rm -rf of what is in a folder; how much it was."""
    removed = 0
    waiting = [a.path(where)]
    emptied = []
    while waiting:
        folder = waiting.pop()
        for name in sorted(os.listdir(folder)):
            path = folder + b"/" + name
            if stat.S_ISDIR(os.lstat(path).st_mode):
                waiting.append(path)
                emptied.append(path)
            else:
                os.unlink(path)
                removed += 1
    for path in reversed(emptied):
        os.rmdir(path)
    return removed + len(emptied)


# Attributes


def do_chmod(a: Actor, where: Where, mode: int) -> None:
    path, folder = a.changeable_at(where, follow=True)
    os.chmod(path, mode, dir_fd=folder_of(folder))


def do_chmod_link(a: Actor, where: Where, mode: int) -> None:
    """fchmodat2(AT_SYMLINK_NOFOLLOW)."""
    path, folder = a.changeable_at(where, follow=False)
    chmod_with_flags(folder, path, mode, AT_SYMLINK_NOFOLLOW)


def do_fchmod(a: Actor, slot: int, mode: int) -> None:
    os.fchmod(a.changeable(slot), mode)


def do_chown(a: Actor, where: Where, uid: int, gid: int, follow: bool) -> None:
    path, folder = a.changeable_at(where, follow)
    os.chown(path, uid, gid, dir_fd=folder_of(folder), follow_symlinks=follow)


def do_fchown(a: Actor, slot: int, uid: int, gid: int) -> None:
    os.fchown(a.changeable(slot), uid, gid)


def do_times(a: Actor, where: Where, atime: int | None, mtime: int | None, follow: bool) -> tuple[int, ...]:
    path, folder = a.changeable_at(where, follow)
    set_times(folder, path, atime, mtime, 0 if follow else AT_SYMLINK_NOFOLLOW)
    return _times_set(os.stat(path, dir_fd=folder_of(folder), follow_symlinks=follow), atime, mtime)


def do_ftimes(a: Actor, slot: int, atime: int | None, mtime: int | None) -> tuple[int, ...]:
    descriptor = a.changeable(slot)
    set_times(descriptor, None, atime, mtime, 0)
    return _times_set(os.fstat(descriptor), atime, mtime)


def _times_set(seen: os.stat_result, atime: int | None, mtime: int | None) -> tuple[int, ...]:
    """Those times that were given, as they are now."""
    given = ((atime, seen.st_atime_ns), (mtime, seen.st_mtime_ns))
    return tuple(found for wanted, found in given if wanted not in (None, NOW))


def do_set_xattr(a: Actor, where: Where | int, name: str, data: Data | bytes, flags: int, follow: bool) -> None:
    value = data if isinstance(data, bytes) else contents(data)
    if isinstance(where, int):
        os.setxattr(a.changeable(where), name, value, flags)
    else:
        os.setxattr(a.changeable_path(where, follow), name, value, flags, follow_symlinks=follow)


def do_remove_xattr(a: Actor, where: Where | int, name: str, follow: bool) -> None:
    if isinstance(where, int):
        os.removexattr(a.changeable(where), name)
    else:
        os.removexattr(a.changeable_path(where, follow), name, follow_symlinks=follow)


def do_get_xattr(a: Actor, where: Where | int, name: str, follow: bool) -> Any:
    if isinstance(where, int):
        return told(os.getxattr(a.changeable(where), name))
    return told(os.getxattr(a.changeable_path(where, follow), name, follow_symlinks=follow))


def do_list_xattrs(a: Actor, where: Where | int, follow: bool) -> list[str]:
    if isinstance(where, int):
        return sorted(os.listxattr(a.changeable(where)))
    return sorted(os.listxattr(a.changeable_path(where, follow), follow_symlinks=follow))


# Looking


def do_stat(a: Actor, where: Where, follow: bool) -> tuple[int, ...]:
    path, folder = a.at(where)
    return seen_of(os.stat(path, dir_fd=folder_of(folder), follow_symlinks=follow))


def do_fstat(a: Actor, slot: int) -> tuple[int, ...]:
    return seen_of(os.fstat(a.slot(slot).descriptor))


def do_access(a: Actor, where: Where, mode: int, flags: int) -> None:
    path, folder = a.at(where)
    access_with_flags(folder, path, mode, flags)


def do_list(a: Actor, where: Where, buffer_bytes: int, back_to: int) -> tuple[list[tuple[bytes, int]], bool]:
    """(name, kind) of all entries, and whether going back to the `back_to`th by its cookie gives the rest again."""
    path, folder = a.at(where)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder_of(folder))
    try:
        found = _rest(descriptor, buffer_bytes)
        start = back_to % max(len(found), 1)
        if found:
            os.lseek(descriptor, found[start].cookie, os.SEEK_SET)
        again = _rest(descriptor, buffer_bytes)
        astray = [entry.name for entry in again] != [entry.name for entry in found[start + 1 :]]
        return sorted((entry.name, entry.kind) for entry in found), not astray
    finally:
        os.close(descriptor)


def _rest(descriptor: int, buffer_bytes: int) -> list[Entry]:
    found: list[Entry] = []
    while page := entries(descriptor, buffer_bytes):
        found += page
    return found


def do_list_slot(a: Actor, slot: int) -> list[str]:
    return sorted(os.listdir(a.slot(slot).descriptor))


# The process


def do_umask(_a: Actor, mask: int) -> None:
    os.umask(mask)


def do_chdir(a: Actor, where: Where) -> None:
    os.chdir(a.path(where))


def do_fchdir(a: Actor, slot: int) -> None:
    os.fchdir(a.slot(slot).descriptor)


def do_getcwd(_a: Actor) -> bytes:
    return os.getcwdb()
