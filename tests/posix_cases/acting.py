"""Where cases are done: a small process that forks one child a case, which acts as its user. Run as a module.

The process of the tests is large, and a fork costs by size.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from posix_cases.case import User

HANG_SECONDS = 30
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None)


class Order(NamedTuple):
    """The case of this place in the list is to be done in the folder `root`; or, if told, what a known difference does."""

    place: int
    instead: int | None
    root: str


class Actor:
    """The process, as the tests have it."""

    def __init__(self) -> None:
        orders_out, orders_in = os.pipe()
        told_out, told_in = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "posix_cases.acting", str(orders_out), str(told_in)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
            stdin=subprocess.DEVNULL,
            pass_fds=[orders_out, told_in],
        )
        os.close(orders_out)
        os.close(told_in)
        self._orders = os.fdopen(orders_in, "wb")
        self._told = os.fdopen(told_out, "rb")

    def __enter__(self) -> Actor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._orders.close()
        self._told.close()
        self._process.wait()

    def act(self, order: Order) -> tuple[int, Any]:
        """The errno, and what the call gave; AssertionError if it failed in another way than by an errno."""
        pickle.dump(order, self._orders)
        self._orders.flush()
        status, told = pickle.load(self._told)
        assert status == 0, f"killed by {signal.Signals(status & 127).name}"
        number, value = pickle.loads(told)
        assert number >= 0, value
        return number, value


def become(who: User) -> None:
    """This process, whole, for good. Its /proc stays its own: a change of user takes that away."""
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _done(do: Callable[[], object]) -> tuple[int, object]:
    try:
        return 0, do()
    except OSError as error:
        return error.errno or -1, None
    except BaseException:
        return -1, traceback.format_exc()


def _serve(orders_fd: int, told_fd: int) -> None:
    from posix_cases import ALL
    from posix_cases.known import KNOWN

    with os.fdopen(orders_fd, "rb") as orders, os.fdopen(told_fd, "wb") as told, suppress(EOFError):
        while True:
            order: Order = pickle.load(orders)
            case = ALL[order.place]
            do = case.do if order.instead is None else KNOWN[order.instead].instead
            assert do is not None
            pickle.dump(_in_child(do, case.who, case.umask, order.root), told)
            told.flush()


def _in_child(do: Callable[[], object], who: User, umask: int, root: str) -> tuple[int, bytes]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            signal.alarm(HANG_SECONDS)
            os.chdir(root)
            os.umask(umask)
            become(who)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(_done(do), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pipe.read()
    return os.waitpid(child, 0)[1], found


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
