"""The one border between us and pyfuse3: no exception but FUSEError leaves a handler, or the mount would end."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pyfuse3

from lighthousefs.errors import DiskFull, ReadOnlyStore, Refused, StorageError

_log = logging.getLogger(__name__)
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])

requests: Counter[str] = Counter()
"""Requests answered, by handler."""


def border(handler: Handler) -> Handler:
    """Count the request; turn our errors into errnos, and any other exception into EIO for this caller alone."""
    name = handler.__name__

    @functools.wraps(handler)
    async def guarded(*arguments: Any) -> Any:
        requests[name] += 1
        try:
            return await handler(*arguments)
        except pyfuse3.FUSEError:
            raise
        except Refused as error:
            raise _told(arguments, name, error.errno, error) from None
        except DiskFull as error:
            _log.warning("%s: %s", name, error)
            raise _told(arguments, name, errno.ENOSPC, error) from None
        except ReadOnlyStore as error:
            raise _told(arguments, name, errno.EROFS, error) from None
        except StorageError as error:
            _log.error("%s: %s", name, error)
            raise _told(arguments, name, errno.EIO, error) from None
        except Exception:
            _log.exception("%s failed: its caller gets EIO, the mount goes on", name)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return guarded  # type: ignore[return-value]


def _told(arguments: Sequence[Any], name: str, number: int, error: Exception) -> pyfuse3.FUSEError:
    """What the kernel is told; the caller may ask for the words (`refused` of the operations)."""
    if isinstance(error, StorageError):
        arguments[0].mend()
    arguments[0].refused(name, arguments[1:], number, str(error))
    return pyfuse3.FUSEError(number)


def unanswered(handler: Handler) -> Handler:
    """For `forget`, which has no caller to tell: from it even a FUSEError would end the mount."""

    @functools.wraps(handler)
    async def guarded(*arguments: Any) -> None:
        with contextlib.suppress(pyfuse3.FUSEError):
            await handler(*arguments)

    return guarded  # type: ignore[return-value]
