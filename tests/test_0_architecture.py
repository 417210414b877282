"""The layers as a failing test: floors are read from the map, the docstring of the package, and every import is held
against them. The rules are functions of a source tree, so that a planted violation shows that each of them bites."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lighthousefs"
FILE_LINES_MAX = 499
FUNCTION_LINES_MAX = 69
OWNERS = {"lmdb": ("storage",), "pyfuse3": ("fuse",)}
NEVER_IN_DOMAIN = {"pyfuse3", "trio", "lmdb"}
_FLOOR_LINE = re.compile(r"^ (\d)  (\S.*)$", re.MULTILINE)


def floors(package: Path) -> dict[str, tuple[int, int]]:
    """Room or module of the top level → (floor, place on it), as the package's docstring lists them."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text()), clean=False) or ""
    found = {}
    for line in _FLOOR_LINE.finditer(text):
        rooms = re.sub(r"\([^)]*\)", "", line[2]).split(",")
        found.update({room.strip(): (int(line[1]), place) for place, room in enumerate(rooms)})
    return found


def sources(package: Path) -> Iterator[tuple[Path, str, ast.Module]]:
    """Every file, the room it is in ("" for the package's own `__init__`), and its syntax tree."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        room = "" if parts == ("__init__",) else parts[0]
        yield path, room, ast.parse(path.read_text(), filename=str(path))


def imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names of all imports, wherever they stand: of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_violations(package: Path) -> list[str]:
    """Imports that look up or aside. On the lowest floor a module may use those that are listed before it."""
    floor_of = floors(package)
    wrong = []
    for path, room, tree in sources(package):
        if room == "":
            continue
        if room not in floor_of:
            wrong.append(f"{path.name}: {room} is on no floor")
            continue
        for name in imported(tree):
            parts = name.split(".")
            if parts[0] != package.name or len(parts) == 1 or parts[1] not in floor_of or parts[1] == room:
                continue
            mine, other = floor_of[room], floor_of[parts[1]]
            if other[0] > mine[0] or (other[0] == mine[0] and (mine[0] > 0 or other[1] > mine[1])):
                wrong.append(f"{room}/{path.name} on floor {mine[0]} imports {parts[1]} of floor {other[0]}")
    return wrong


def owner_violations(package: Path) -> list[str]:
    """Imports of a library outside the one room that may, and of anything impure in the domain."""
    wrong = []
    for path, room, tree in sources(package):
        for name in imported(tree):
            library = name.split(".")[0]
            if library in OWNERS and room not in OWNERS[library]:
                wrong.append(f"{room}/{path.name} imports {library}")
            if room == "domain" and library in NEVER_IN_DOMAIN:
                wrong.append(f"domain/{path.name} imports {library}")
    return wrong


def room_violations(package: Path) -> list[str]:
    """Rooms that are not one level deep, of one module, or whose card is not just a docstring."""
    wrong = []
    for room in sorted(path for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"):
        wrong += [f"{path} is a room in a room" for path in room.iterdir() if path.is_dir() and any(path.glob("*.py"))]
        if len(list(room.glob("*.py"))) < 3:
            wrong.append(f"{room.name} has not more than one module")
        body = ast.parse((room / "__init__.py").read_text()).body
        if len(body) != 1 or not ast.get_docstring(ast.Module(body, [])):
            wrong.append(f"{room.name}/__init__.py is not a docstring alone")
    return wrong


def circle_violations(package: Path) -> list[str]:
    """Files that import one another, straight or by way of others; an import for types alone is one too."""
    uses: dict[str, set[str]] = {}
    for path, _room, tree in sources(package):
        module = ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        uses[module] = set(imported(tree)) - {module}
    sorter = graphlib.TopologicalSorter({module: used & uses.keys() for module, used in uses.items()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


def size_violations(package: Path) -> list[str]:
    """Files and functions longer than one reads in one go."""
    wrong = []
    for path, _room, tree in sources(package):
        lines = len(path.read_text().splitlines())
        if lines > FILE_LINES_MAX:
            wrong.append(f"{path.name} has {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    wrong.append(f"{path.name}: {node.name} has {length} lines")
    return wrong


def event_classes(package: Path) -> list[str]:
    """Classes that say what an event is: by their name, or by having the fields that only its header has."""
    found = []
    for path, _room, tree in sources(package):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                names = {
                    item.target.id
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                }
                if node.name == "Event" or {"writer_seq", "correlation"} <= names:
                    found.append(f"{path.name}: {node.name}")
    return found


Rule = Callable[[Path], list[str]]
RULES: tuple[Rule, ...] = (layer_violations, owner_violations, room_violations, circle_violations, size_violations)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Rule) -> None:
    assert rule(PACKAGE) == []


def test_the_map_names_every_room_and_no_other() -> None:
    there = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() and path.name != "__pycache__") or (path.suffix == ".py" and path.stem != "__init__")
    }
    assert set(floors(PACKAGE)) == there


def test_one_class_defines_an_event() -> None:
    assert event_classes(PACKAGE) == ["events.py: Event"]


MAP = '"""A map.\n\n 0  ids, errors\n 1  domain (pure), storage (LMDB, files)\n 2  tables\n"""\n'
PLANTED = [
    ("domain/a.py", "from planted.tables import b\n", layer_violations, "domain/a.py on floor 1 imports tables"),
    ("domain/a.py", "import planted.storage.b\n", layer_violations, "domain/a.py on floor 1 imports storage"),
    ("domain/a.py", "from planted import tables\n", layer_violations, "domain/a.py on floor 1 imports tables"),
    ("domain/a.py", "def f():\n    from planted.tables import b\n", layer_violations, "imports tables of floor 2"),
    ("ids.py", "from planted.errors import E\n", layer_violations, "ids/ids.py on floor 0 imports errors"),
    ("attic/a.py", "", layer_violations, "attic is on no floor"),
    ("tables/a.py", "import lmdb\n", owner_violations, "tables/a.py imports lmdb"),
    ("tables/a.py", "from pyfuse3 import x\n", owner_violations, "tables/a.py imports pyfuse3"),
    ("domain/a.py", "import trio.lowlevel\n", owner_violations, "domain/a.py imports trio"),
    ("tables/deep/a.py", "", room_violations, "is a room in a room"),
    ("tables/__init__.py", '"""A card."""\nx = 1\n', room_violations, "tables/__init__.py is not a docstring alone"),
    ("attic/__init__.py", '"""A card."""\n', room_violations, "attic has not more than one module"),
    ("domain/a.py", "from planted.domain import b\n", circle_violations, "planted.domain.a imports planted.domain.b"),
    ("domain/a.py", "x = 1\n" * 500, size_violations, "a.py has 500 lines"),
    ("domain/a.py", "def f():\n" + "    x = 1\n" * 69, size_violations, "a.py: f has 70 lines"),
    ("domain/a.py", "class Event:\n    pass\n", event_classes, "a.py: Event"),
    ("domain/a.py", "class E:\n    writer_seq: int\n    correlation: int\n", event_classes, "a.py: E"),
]


@pytest.mark.parametrize(("name", "text", "rule", "found"), PLANTED)
def test_a_planted_violation_is_found(name: str, text: str, rule: Rule, found: str, tmp_path: Path) -> None:
    package = tmp_path / "planted"
    for room in ("domain", "storage", "tables"):
        (package / room).mkdir(parents=True)
        for module in ("a.py", "b.py"):
            (package / room / module).write_text("import planted.ids\n")
        (package / room / "__init__.py").write_text('"""A card."""\n')
    (package / "domain/b.py").write_text("from planted.domain.a import x\n")
    (package / "__init__.py").write_text(MAP)
    (package / "ids.py").write_text("")
    (package / "errors.py").write_text("import planted.ids\n")
    assert rule(package) == []
    path = package / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    wrong = rule(package)
    assert len(wrong) >= 1
    assert any(found in sentence for sentence in wrong), wrong
