"""The house is as drawn: docs/architecture.md against the imports and the words of every module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
HEAVY = {"construct", "dataclasses", "enum", "logging", "numpy", "pathlib", "re", "threading", "typing"}
FACE = {"btrimg", "btrimg.__main__"}  # on no floor: they name everything, and run it


class Room(NamedTuple):
    floor: int
    point_path: bool


@cache
def rooms() -> dict[str, Room]:
    """Read the table: module name -> its floor, and whether it is on the point path."""
    table = re.findall(r"^\| (\S+)/ \| (\d) \| [^|]+ \| ([^|]+) \|$", (ROOT / "docs/architecture.md").read_text(), re.M)
    drawn = {}
    for folder, floor, names in table:
        package = "btrimg" if folder == "." else f"btrimg.{folder.replace('/', '.')}"
        if folder != ".":
            drawn[package] = Room(int(floor), point_path=True)
        for name in names.split(" · "):
            drawn[f"{package}.{name.strip('*')}"] = Room(int(floor), point_path=name.startswith("**"))
    return drawn


@cache
def sources() -> dict[str, ast.Module]:
    """Parse every file: module name -> syntax tree."""
    files = sorted((ROOT / "btrimg").rglob("*.py"))
    return {module_name(file): ast.parse(file.read_bytes(), file) for file in files}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield the modules that import statements among *nodes* name; of ``from package import module``, the module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in sources() else str(node.module)


@cache
def imported_by(module: str) -> list[str]:
    return list(imports(ast.walk(sources()[module])))


def run_on_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the nodes that importing a module evaluates: not functions, not what only type checkers see."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from run_on_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            blocks = (getattr(node, name, []) for name in ("body", "orelse", "finalbody"))
            handlers = (handler.body for handler in getattr(node, "handlers", []))
            for block in (*blocks, *handlers):
                yield from run_on_import(block)


@cache
def words(module: str) -> set[str]:
    """Return every name that a module's code uses, and every attribute of one, dotted."""
    nodes = list(ast.walk(sources()[module]))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    dotted = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return names | {ast.unparse(node) for node in dotted}


def modules_below(floor: int) -> list[str]:
    return [module for module, room in rooms().items() if room.floor < floor]


def test_the_table_names_every_module_and_nothing_else() -> None:
    assert set(sources()) - FACE == set(rooms())


def test_imports_go_down() -> None:
    up = [
        (module, imported)
        for module, room in rooms().items()
        for imported in imported_by(module)
        if imported.partition(".")[0] == "btrimg"
        if rooms()[imported].floor >= room.floor and package_of(imported) != package_of(module)
    ]
    assert up == []


def test_only_ondisk_imports_construct() -> None:
    users = {
        package_of(module)
        for module in sources()
        if any(name.partition(".")[0] == "construct" for name in imported_by(module))
    }
    assert users == {"btrimg.ondisk"}


@pytest.mark.parametrize(
    ("floor", "forbidden"),
    [
        (7, {"print", "click.echo", "sys.stdout", "sys.stderr"}),
        (8, {"os.environ", "os.getenv", "sys.argv", "sys.exit", "os._exit", "SystemExit"}),
    ],
    ids=["nothing prints", "nothing reads the environment or exits"],
)
def test_below_a_floor(floor: int, forbidden: set[str]) -> None:
    found = {(module, word) for module in modules_below(floor) for word in words(module) & forbidden}
    assert found <= {("btrimg.forked", "os._exit")}, "which is how a process that was forked ends"


@pytest.mark.parametrize(
    "package",
    sorted({package_of(module) for module, room in rooms().items() if room.floor}),
)
def test_an_init_holds_no_code(package: str) -> None:
    docstring, *rest = sources()[package].body
    assert isinstance(docstring, ast.Expr)
    assert all(
        isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
        for node in rest
    )


def test_a_module_on_the_point_path_imports_nothing_heavy_and_nobody_off_it() -> None:
    wrong = [
        (module, imported)
        for module, room in rooms().items()
        if room.point_path
        for imported in imports(run_on_import(sources()[module].body))
        if imported.partition(".")[0] in HEAVY or not rooms().get(imported, room).point_path
    ]
    assert wrong == []


def test_every_directory_of_tests_is_looked_into(pytestconfig: pytest.Config) -> None:
    """By default pytest passes over directories called build, dist and venv, without a word."""
    left_out = pytestconfig.getini("norecursedirs")
    directories = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    names = {name for directory in directories for name in directory.relative_to(ROOT).parts}
    assert {"build", "write"} < names
    assert [name for name in names for pattern in left_out if fnmatchcase(name, pattern)] == []


RESOLVE_BY_LIBRARY = """
import btrimg
with btrimg.open({image!r}) as fs:
    file = fs.open(b"/vm/disk.raw")
    assert file.resolve(1064960).kind == "regular"
    assert len(file.read(0, 1 << 20)) == 1 << 20
    assert len(list(fs.open(b"/files").entries())) > 5
"""
RESOLVE_BY_CLI = """
from btrimg.cli.main import run
assert run(["resolve", "{image}:/vm/disk.raw", "1064960"]) == 0
"""
PUT = """
from btrimg.cli.main import run
assert run(["edit", "{image}", "put", "{host}", "/new"]) == 0
"""


def loaded_by(code: str) -> list[str]:
    """Return the modules that a process has which runs *code*."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1].split()


@pytest.mark.parametrize("code", [RESOLVE_BY_LIBRARY, RESOLVE_BY_CLI], ids=["library", "cli"])
def test_the_point_path_loads_bold_rooms_only(demo_image: str, code: str) -> None:
    loaded = loaded_by(code.format(image=demo_image))
    assert "btrimg.filesystem.translate" in loaded
    assert HEAVY.isdisjoint(loaded)
    assert [module for module in loaded if module in rooms() and not rooms()[module].point_path] == []


def test_a_put_loads_nothing_heavy(demo_image: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    subprocess.run(["cp", "--sparse=always", demo_image, image], check=True)
    loaded = loaded_by(PUT.format(image=image, host=__file__))
    assert "btrimg.edit.judge" in loaded
    assert HEAVY.isdisjoint(loaded)
