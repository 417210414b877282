"""copy_file_range(2), for which pyfuse3 has no handler though libfuse has.

Without one the kernel reads and writes 64 KiB at a time: `cp` of 100 MB within the mount is 1,600 round trips, and as many
events. With one it is a hundred. pyfuse3 gives libfuse its table of handlers in a call of `fuse_session_new`, which is led
through here, where ours is added. Where pyfuse3 is not linked to libfuse as expected, nothing is changed and the kernel
goes on as before; so it does with what a handler declines (EOPNOTSUPP).
"""

from __future__ import annotations

import ctypes
import errno
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pyfuse3

from lighthousefs.fuse import linkage

_log = logging.getLogger(__name__)

Copy = Callable[[int, int, int, int, int], Coroutine[Any, Any, int]]
"""From a handle's offset to a handle's offset, at most so many bytes; how many it were. FUSEError as from any handler."""

# libfuse 3, fuse_lowlevel.h and fuse_common.h: struct fuse_lowlevel_ops is 44 pointers or more, to which later versions
# add at the end; struct fuse_file_info has the handle at 16.
_HANDLERS = 44
_COPY_FILE_RANGE = 42


class _FileInfo(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint32 * 4), ("handle", ctypes.c_uint64))


_Handler = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_uint64,
    ctypes.c_int64,
    ctypes.POINTER(_FileInfo),
    ctypes.c_uint64,
    ctypes.c_int64,
    ctypes.POINTER(_FileInfo),
    ctypes.c_size_t,
    ctypes.c_int,
)
_NewSession = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_void_p
)
_kept: list[object] = []
"""What libfuse calls must not be freed while the process lives."""


def install(copy: Copy) -> bool:
    """Have `copy` answer copy_file_range, from the next `pyfuse3.init` on; False if that is not possible here."""
    try:
        return _install(copy)
    except (OSError, AttributeError, MemoryError) as error:
        _log.info("copies within the mount come in small pieces: %s", error)
        return False


def _install(copy: Copy) -> bool:
    module, fuse = linkage.loaded(str(Path(pyfuse3.__file__).resolve())), linkage.loaded("/libfuse3")
    slot = linkage.slot_of(module[0], "fuse_session_new") if module else None
    if module is None or fuse is None or slot is None:
        return False
    libfuse = ctypes.CDLL(str(fuse[0]))
    real = _NewSession(("fuse_session_new", libfuse))
    handler = _Handler(_answering(copy, libfuse))

    def with_copies(arguments: int, handlers: Any, size: int, data: int) -> int | None:
        table = (ctypes.c_void_p * max(_HANDLERS, size // ctypes.sizeof(ctypes.c_void_p)))()
        ctypes.memmove(table, handlers, size)
        table[_COPY_FILE_RANGE] = ctypes.cast(handler, ctypes.c_void_p).value
        made: int | None = real(arguments, table, ctypes.sizeof(table), data)
        return made

    new_session = _NewSession(with_copies)
    address = ctypes.cast(new_session, ctypes.c_void_p).value
    assert address is not None
    _kept.extend((handler, new_session, libfuse))
    linkage.put(module[1] + slot, address)
    return True


def _answering(copy: Copy, libfuse: ctypes.CDLL) -> Callable[..., None]:
    reply_write, reply_error = libfuse.fuse_reply_write, libfuse.fuse_reply_err
    reply_write.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    reply_error.argtypes = (ctypes.c_void_p, ctypes.c_int)

    def handler(
        request: int,
        _ino_in: int,
        offset_in: int,
        file_in: Any,
        _ino_out: int,
        offset_out: int,
        file_out: Any,
        length: int,
        _flags: int,
    ) -> None:
        # An exception that left here would be printed and the caller never answered.
        number = errno.EIO
        try:
            copy(file_in.contents.handle, offset_in, file_out.contents.handle, offset_out, length).send(None)
        except StopIteration as done:
            reply_write(request, done.value)
            return
        except pyfuse3.FUSEError as error:
            number = error.errno
        except BaseException:
            _log.exception("copy_file_range failed: its caller gets EIO, the mount goes on")
        reply_error(request, number)

    return handler
