"""An event of the log, and its fields, as lines for a person."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

_OCTAL = ("mode",)
_NAMES = {"parent", "name", "new_parent", "new_name", "digest", "algorithm", "path", "new_path", "source_path"}
_PLAIN_WORDS = {
    "file-created": "created",
    "node-created": "created",
    "unlinked": "removed",
    "inode-released": "released",
    "store-created": "made",
    "unmounted": "unmounted",
}


class Words(NamedTuple):
    """`detail` may be empty."""

    what: str
    path: str
    detail: str = ""


def counted(amount: int, what: str) -> str:
    """1 event, 2 events."""
    return f"{amount} {what}{'' if amount == 1 else 's'}"


def text_fields(name: str, value: bytes) -> dict[str, str]:
    """Bytes for JSON: under the key `name`, and exactly under `name_b64` if they are not UTF-8."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {name: value.decode(errors="backslashreplace"), f"{name}_b64": base64.b64encode(value).decode()}


def dimmed(row: dict[str, Any]) -> tuple[str, str, str]:
    """Event, time and agent of a row, as they begin a line."""
    return f"@{row['seq']}".ljust(7), row["log_time"][:19] + "Z", row["agent"].ljust(12)


def in_words(row: dict[str, Any]) -> Words:
    """A row of `log`."""
    kind, path = row["type"], _path(row)
    if row.get("open"):
        return Words("writing", path, "(removed)" if row["removed"] else "")
    if row.get("part"):
        return Words("wrote", path, f"{_bytes(row)} (before a later line)".strip())
    match kind:
        case "version-closed":
            return _version(row, path)
        case "file-replaced" | "file-made":
            return Words("created" if kind == "file-made" else "replaced", path, _bytes(row))
        case "files-created":
            return Words("created", f"{path}/", ", ".join(filter(None, [_things(row), _bytes(row)])))
        case "files-removed":
            return Words("removed", f"{path}/", _things(row) + ("" if row["removed"] else "; the folder stays"))
        case "directory-created":
            return Words("created", f"{path}/")
        case "directory-removed":
            return Words("removed", f"{path}/")
        case "symlink-created":
            return Words("created", f"{path} -> {row['target']}")
        case "renamed":
            return _renamed(row, path)
        case "linked":
            return Words("linked", f"{row.get('source_path', '?')} -> {path}")
        case "attributes-changed":
            return _attributes(row, path)
        case "xattr-set":
            return Words("xattr", path, row["name"])
        case "xattr-removed":
            return Words("xattr", path, f"{row['name']} removed")
        case "mounted":
            return Words("mounted", row["mount_point"], f"by {row['version']} on {row['host']}")
        case "tagged" if row["was"] is not None:
            return Words("tagged", f"{row['name']} = @{row['moment']}", f"(was {row['was']})")
        case "tagged" | "untagged":
            return Words(kind, f"{row['name']} = @{row['moment']}")
        case "correlation-begun":
            return Words(row["kind"], "", f"{row['new_correlation']} from {row['origin']}")
        case "recovered":
            return Words(
                "recovered",
                "",
                f"{counted(row['replayed'], 'event')} applied again, {counted(row['torn'], 'torn byte')} cut off",
            )
        case "damage-found":
            of = f"version @{row['version']}" if row["version"] else f"event @{row['wrote']}"
            return Words(
                "damage", row["file"], f"{of}: {row['place']} at offset {row['offset']}, found by a {row['by']}"
            )
        case "repaired":
            return Words("repaired", "", _repair(row))
        case "verified":
            found = counted(row["broken"], "broken invariant") if row["broken"] else "sound"
            return Words("verified", "", f"up to @{row['moment']}{', every byte' if row['deep'] else ''}: {found}")
        case "backed-up":
            damaged = f", with {counted(row['damaged'], 'damaged part')}" if row["damaged"] else ""
            return Words("backed up", row["dest"], f"{row['backup']} on {row['host']}{damaged}")
        case "backup-restored":
            return Words("restored", "", f"from the backup {row['backup']} of {row['origin']}, up to @{row['moment']}")
        case _:
            return Words(_PLAIN_WORDS.get(kind, kind), path)


def in_words_raw(row: dict[str, Any]) -> Words:
    """A row of `log --raw`: its type, and the fields that its path does not say."""
    from lighthousefs.domain.events import EVENT_TYPES, Event

    declared = EVENT_TYPES[row["type"]].record._fields
    shown = {name: row[f"new_{name}" if name in Event._fields else name] for name in declared if name not in _NAMES}
    if row["type"].startswith("xattr-") or row["type"] in ("tagged", "untagged"):
        shown["name"] = row["name"]
    if "mode" in shown and shown["mode"] is not None:
        shown["mode"] = f"{shown['mode']:06o}"
    path = f"{_path(row)} -> {row['new_path']}" if "new_path" in row else _path(row)
    return Words(row["type"], path, " ".join(f"{name}={value}" for name, value in shown.items() if value is not None))


def _path(row: dict[str, Any]) -> str:
    """Of a nameless file whose folder is gone only the inode is known."""
    if "path" in row:
        return str(row["path"])
    return f"(inode {row['ino']})" if "ino" in row else ""


def _things(row: dict[str, Any]) -> str:
    return ", ".join(counted(row[name], what) for name, what in (("files", "file"), ("others", "other")) if row[name])


def _bytes(row: dict[str, Any]) -> str:
    return f"+{row['written']}" if row["written"] else ""


def _version(row: dict[str, Any], path: str) -> Words:
    what = "truncated" if row["how"] == "truncate" else "wrote"
    if row["created"] and not row["removed"]:
        what = "created"
    detail = "(removed) " if row["removed"] else ""
    detail += _bytes(row)
    if row["how"] == "recovery":
        detail += " (its writer was cut off by a crash)"
    return Words(what, path, detail.strip())


def _repair(row: dict[str, Any]) -> str:
    made = [f"the index made again for {counted(row['faults'], 'fault')}"] if row["faults"] else []
    return ", ".join(made + ([f"{counted(row['torn'], 'torn byte')} cut off"] if row["torn"] else []))


def _renamed(row: dict[str, Any], path: str) -> Words:
    if row["exchange"]:
        return Words("exchanged", f"{path} <-> {row.get('new_path', '?')}")
    return Words("renamed", f"{path} -> {row.get('new_path', '?')}", "(replaced)" if row["replaced"] else "")


def _attributes(row: dict[str, Any], path: str) -> Words:
    changed: dict[str, str] = {}
    if row["mode"] is not None:
        changed["mode"] = f"{row['mode'] & 0o7777:04o}"
    if row["new_uid"] is not None or row["new_gid"] is not None:
        uid, gid = ("-" if row[name] is None else str(row[name]) for name in ("new_uid", "new_gid"))
        changed["owner"] = f"{uid}:{gid}"
    if row["atime"] is not None or row["mtime"] is not None:
        changed["times"] = f"modified {row['mtime'][:19]}Z" if row["mtime"] is not None else "accessed"
    what = next(iter(changed), "changed")
    first, *more = changed.items() or [("", "")]
    return Words(what, path, ", ".join([first[1], *(f"{name} {value}" for name, value in more)]))


def in_text(name: str, value: Any) -> str:
    """A field of an event as it stands on a line."""
    if isinstance(value, str):
        return value
    return f"{value:06o}" if name in _OCTAL and value is not None else json.dumps(value)
