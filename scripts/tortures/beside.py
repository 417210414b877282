"""The same done on the mount and on a plain folder of the same disk, and a table of how it went."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from difference import assert_sound
from mounting import Mounted


@dataclass(frozen=True, slots=True)
class Places:
    """Where to work: a folder of the plain file system, and one on the mount. Every user may enter both."""

    plain: Path
    mounted: Mounted

    @property
    def mount(self) -> Path:
        return self.mounted.current


@contextmanager
def places(directory: Path, *, sound: bool = True) -> Iterator[Places]:
    """A plain folder and a mount in `directory`, both gone afterwards; what the store holds at the end must be sound."""
    top = Path(tempfile.mkdtemp(prefix="lighthousefs-torture-", dir=directory))
    try:
        top.chmod(0o755)
        # As long a path as on the mount: a socket's name may have 107 bytes.
        plain = top / "plain" / "current"
        plain.mkdir(parents=True)
        with Mounted(top, options=["--allow-other"]) as mounted:
            yield Places(plain, mounted)
            assert "Traceback" not in mounted.log.read_text(), mounted.log.read_text()[-3000:]
            if sound:
                mounted.unmount()
                assert_sound(mounted.store)
    finally:
        shutil.rmtree(top, ignore_errors=True)


@contextmanager
def fresh(root: Path, name: str) -> Iterator[Path]:
    """A new folder in `root` for one run, gone afterwards."""
    folder = root / name
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Row:
    """What one thing gave below and on the mount, and why it may differ."""

    name: str
    plain: str
    mount: str
    reason: str = ""

    @property
    def held(self) -> bool:
        return self.plain == self.mount or bool(self.reason)

    def told(self) -> str:
        verdict = "ok" if self.plain == self.mount else f"known: {self.reason}" if self.reason else "DIFFERS"
        return f"{self.name:<22} {self.plain:<16} {self.mount:<16} {verdict}"


HEADING = Row("", "plain", "mount").told().removesuffix("DIFFERS").rstrip()


def compare(here: Places, name: str, run: Callable[[Path], str], reason: str = "") -> Row:
    """Run `run` in a fresh folder of each place."""
    with fresh(here.plain, name) as folder:
        below = run(folder)
    with fresh(here.mount, name) as folder:
        above = run(folder)
    return Row(name, below, above, reason)
