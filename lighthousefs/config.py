"""The settings of a mount, from a TOML file: `mount --config FILE`; `lighthousefs config default` shows them all.

A setting is a field of `Config`, a table of settings a field that is a model itself. What is not declared is refused by name,
so that a misspelt setting is never one that silently does nothing. A field's description is what the file of the defaults
says of it; one that is nothing by default has an example.
"""

from __future__ import annotations

import difflib
import grp
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lighthousefs import limits
from lighthousefs.domain.permission import Past
from lighthousefs.errors import Unusable

PATTERNS_MAX, PATTERN_LETTERS_MAX = 256, 255
GID_MAX = (1 << 32) - 2
"""The highest number means "leave it as it is" to chown(2)."""
_ERRORS_TOLD_MAX = 3
NOISE = (
    ".*.sw[a-px]",
    ".*.swpx",
    "4913",
    "*~",
    "#*#",
    ".#*",
    ".~lock.*#",
    ".goutputstream-*",
    "*___jb_tmp___",
    "*___jb_old___",
    ".nfs????????????????*",
    ".git/*.lock",
    "*/.git/*.lock",
    ".git/objects/*",
    "*/.git/objects/*",
)
"""Where nothing else is said: vim, emacs and most others; LibreOffice, GNOME, JetBrains; NFS clients; git, which stores each
content under the hash of it: of a commit the references and the index tell."""
_COMMENT_LETTERS = 100


def _gid(value: object) -> object:
    """The number of a group that is given by its name."""
    if not isinstance(value, str):
        return value
    if value.isascii() and value.isdigit():
        return int(value)
    try:
        return grp.getgrnam(value).gr_gid
    except (KeyError, ValueError):
        raise ValueError(f"there is no group {value!r}") from None


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Bounds(_Settings):
    """How far the daemon goes."""

    sync_seconds: float = Field(
        default=limits.SYNC_SECONDS,
        ge=limits.SYNC_SECONDS_LEAST,
        le=limits.SYNC_SECONDS_MOST,
        description="How old the journal on disk may be: so much of what nobody asked to have on disk (fsync) can be lost "
        "with the power. Less costs a busy disk more.",
    )
    questions_max: int = Field(
        default=limits.QUESTIONS_MAX,
        ge=limits.QUESTIONS_MAX_LEAST,
        le=limits.QUESTIONS_MAX_MOST,
        description="How many commands may ask the daemon at a time.",
    )
    questions_of_others_max: int = Field(
        default=limits.QUESTIONS_OF_OTHERS_MAX,
        ge=2,
        description="How many of these may be of other users than root and the daemon's own: fewer than all.",
    )
    questions_of_one_max: int = Field(
        default=limits.QUESTIONS_OF_ONE_MAX,
        ge=1,
        description="How many of those may be of one and the same user: fewer again, so that nobody keeps the others out.",
    )

    @model_validator(mode="after")
    def _leave_room(self) -> Bounds:
        order = (self.questions_of_one_max, self.questions_of_others_max, self.questions_max)
        if not order[0] < order[1] < order[2]:
            told = "questions_of_one_max, questions_of_others_max, questions_max must grow"
            raise ValueError(f"{told}, not {', '.join(map(str, order))}")
        return self


class ScrubSettings(_Settings):
    """How the daemon reads what is stored, to find what the disk has lost."""

    mib_per_second: float = Field(
        default=limits.SCRUB_MIB_PER_SECOND,
        ge=0,
        le=limits.SCRUB_MIB_PER_SECOND_MOST,
        description="How fast stored contents are read and checked in the background, in MiB a second; 0: never.",
    )
    days: float = Field(
        default=limits.SCRUB_DAYS,
        ge=0,
        le=limits.SCRUB_DAYS_MOST,
        description="How long it is from the end of one round through the whole store to the next.",
    )


class Config(_Settings):
    """All settings, as they are where nothing is given."""

    past: Past = Field(
        default="as-it-was",
        description='Who may look at the past. "as-it-was": it has the permissions it had. "owner": it is for who '
        "mounted the store, for root and for the auditors, and so are log and show.",
    )
    auditors: Annotated[int, Field(ge=0, le=GID_MAX), BeforeValidator(_gid)] | None = Field(
        default=None,
        description="A group that may look at a past that is for its owner, by name or number.",
        examples=["staff"],
    )
    noise: list[Annotated[str, Field(min_length=1, max_length=PATTERN_LETTERS_MAX)]] = Field(
        default=list(NOISE),
        max_length=PATTERNS_MAX,
        description="What log hides unless --all is given: patterns of names, and of paths from the project's root where "
        "they have a slash.",
    )
    bounds: Bounds = Field(default=Bounds(), description="How far the daemon goes.")
    scrub: ScrubSettings = Field(
        default=ScrubSettings(), description="How the daemon reads what is stored, to find what the disk has lost."
    )


def load(path: Path) -> Config:
    """The settings in the file at `path`. Raises Unusable (status 2) with everything that is wrong with it, in words."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            # The daemon reads it once more: of a pipe or a terminal nothing would be left, and all settings be as by default.
            raise Unusable(f"{path} is no regular file", "write the settings into a file", status=2)
        with path.open("rb") as file:
            given = tomllib.load(file)
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}", "give a TOML file", status=2) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unusable(f"{path} is no TOML: {error}", 'a setting is a line like: past = "owner"', status=2) from error
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        raise _wrong(path, error) from error


def _wrong(path: Path, error: ValidationError) -> Unusable:
    told = [_in_words(found) for found in error.errors(include_url=False)]
    more = len(told) - _ERRORS_TOLD_MAX
    said = "; ".join(told[:_ERRORS_TOLD_MAX]) + (f"; and {more} more" if more > 0 else "")
    return Unusable(f"{path}: {said}", "`lighthousefs config default` prints all settings", status=2)


def _in_words(found: Any) -> str:
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "value_error":
        return f"{name}: {found['ctx']['error']}"
    if found["type"] == "model_type":
        return f"{name}: it is a table of settings, [{name}], not {found['input']!r:.60}"
    if found["type"] != "extra_forbidden":
        return f"{name}: {found['msg']}, not {found['input']!r:.60}"
    known = list(_table_of(found["loc"]).model_fields)
    close = difflib.get_close_matches(str(found["loc"][-1]), known, n=1)
    return f"there is no setting {name}" + (f", did you mean {close[0]}?" if close else "")


def _table_of(place: Sequence[int | str]) -> type[BaseModel]:
    """The table of settings in which the one at `place` stands."""
    table: type[BaseModel] = Config
    for name in place[:-1]:
        inner = table.model_fields[str(name)].annotation
        assert isinstance(inner, type)
        table = inner
    return table


def defaults() -> str:
    """A file of all settings as they are where nothing is given, with what each is for."""
    return (
        "\n".join(["# Settings of a LighthouseFS mount, as they are where nothing is given.", *_lines(Config(), True)])
        + "\n"
    )


def in_force(config: Config, file: Path | None) -> str:
    """A file of the settings that a mount runs with, which come from `file`."""
    source = "The defaults: no file was given" if file is None else f"From {_plain(str(file))}, as it was"
    return "\n".join([f"# {source} when this was mounted.", *_lines(config, False)]) + "\n"


def described() -> Iterator[tuple[str, Any, str]]:
    """Name, default and description of each setting."""
    yield from _described(Config(), "")


def _described(table: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, value in table:
        if isinstance(value, BaseModel):
            yield from _described(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, type(table).model_fields[name].description or ""


def _lines(table: BaseModel, with_comments: bool, prefix: str = "") -> Iterator[str]:
    """TOML has the tables behind all other settings, as whatever follows the head of a table is of it."""
    inner = {name: value for name, value in table if isinstance(value, BaseModel)}
    for name, value in table:
        if name in inner:
            continue
        field = type(table).model_fields[name]
        if with_comments:
            yield ""
            yield from _comment(field.description or "")
        if value is not None:
            # Not splitlines(), which takes more for ends of lines than TOML does.
            yield from map(_plain, tomli_w.dumps({name: value}).removesuffix("\n").split("\n"))
        elif with_comments and field.examples:
            yield f"# {tomli_w.dumps({name: field.examples[0]}).rstrip()}"
        else:
            yield f"# {name} is not set"
    for name, value in inner.items():
        yield ""
        if with_comments:
            yield from _comment(type(table).model_fields[name].description or "")
        yield f"[{prefix}{name}]"
        yield from _lines(value, with_comments, f"{prefix}{name}.")


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _COMMENT_LETTERS, initial_indent="# ", subsequent_indent="# ")


def _plain(text: str) -> str:
    """`text` with what does not just stand on its line as TOML's own escapes; a path's stray bytes as surrogates."""
    return "".join(letter if letter.isprintable() else _escape(ord(letter)) for letter in text)


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
