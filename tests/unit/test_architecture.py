"""The house's floors, held by reading the imports. `docs/design.md` has the table."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import dotflow

SRC = Path(dotflow.__file__).parent
MODULES = sorted(SRC.rglob("*.py"))

FLOORS = {
    "errors": 0,
    "clock": 0,
    "cpython": 0,
    "atomic_file": 0,
    "own_descriptor": 0,
    "core": 1,
    "code": 2,
    "worker": 2,
    "codec": 2,
    "graph": 3,
    "records": 4,
    "abc": 5,
    "capture": 6,
    "resume": 6,
    "report": 6,
    "processes": 7,
    "engine": 8,
    "providers": 8,
    "testing": 8,
    "config": 9,
    "workflow": 10,
    "__init__": 10,
    "ui": 10,
    "cli": 11,
    "__main__": 12,
}

#: Modules of the providers that several rooms use.
BESIDE = ("optional", "sqlite_errors", "sqlite_file")

#: A table of docs/design.md: the package at its head, and its lines.
TABLE = re.compile(r"^\| `(\w+)/`.*\n\|---.*\n((?:\|.*\n)+)", re.MULTILINE)


def name_of(path: Path) -> str:
    """How a file is called in the lists here: engine/run.py."""
    return path.relative_to(SRC).as_posix()


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Each module of ours that a file imports, wherever the import stands, and whether only a type checker does."""
    tree = ast.parse(path.read_text())
    checker_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import"
            # `from dotflow import clock` and `from dotflow.engine import plan` name modules, too.
            found = [
                f"{node.module}.{alias.name}" if is_module(f"{node.module}.{alias.name}") else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        for name in found:
            if name.partition(".")[0] == "dotflow":
                yield name, node in checker_only


def is_module(name: str) -> bool:
    parts = name.split(".")
    place = SRC.parent.joinpath(*parts)
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def package_of(module: str) -> str:
    """The part of the house that a module stands in: dotflow.engine.run -> engine."""
    return module.split(".")[1]


def edges() -> list[tuple[str, str, str]]:
    """Each import between two parts of the house: the file, its part, the part that it imports."""
    found = []
    for path in MODULES:
        here = name_of(path).removesuffix(".py").split("/")[0]
        if here == "__init__":
            continue  # the face: it loads on first use, and has no logic
        for target, _ in imports_of(path):
            found.append((name_of(path), here, package_of(target) if "." in target else "__init__"))
    return found


def test_every_part_of_the_house_has_its_floor() -> None:
    """A new package or module at the top is given a floor here, and in docs/design.md."""
    parts = {name_of(path).removesuffix(".py").split("/")[0] for path in MODULES} - {"__init__"}

    assert parts <= set(FLOORS)


def test_the_design_says_where_everything_stands() -> None:
    """Each module of a package is in its tables of docs/design.md, and everything that is named there exists."""
    design = (Path(__file__).parents[2] / "docs" / "design.md").read_text()
    named: dict[str, set[str]] = {"abc": {"*.py"}}
    for package, lines in TABLE.findall(design):
        named.setdefault(package, set()).update(re.findall(r"`([\w*/]+\.py)`", lines))
    there = {name_of(path) for path in MODULES if "/" in name_of(path) and path.name != "__init__.py"}

    def is_told_by(module: str, package: str, name: str) -> bool:
        inside = module.removeprefix(f"{package}/")
        return inside != module and (fnmatch(inside, name) or fnmatch(inside.rpartition("/")[2], name))

    told = [(package, name) for package, names in named.items() for name in names]
    assert sorted(module for module in there if not any(is_told_by(module, *place) for place in told)) == []
    assert sorted(place for place in told if not any(is_told_by(module, *place) for module in there)) == []


def test_imports_go_down() -> None:
    """A module imports from its own package and from lower floors only; neighbours don't import each other."""
    wrong = [
        f"{file} ({here}, floor {FLOORS[here]}) imports {target} (floor {FLOORS.get(target, 'none')})"
        for file, here, target in edges()
        if here != target and FLOORS.get(target, 99) >= FLOORS[here]
    ]

    assert wrong == []


def test_the_engine_knows_contracts_and_no_provider() -> None:
    """How a run is decided does not depend on who keeps, writes or tells."""
    known = {target for _, here, target in edges() if here == "engine"}

    assert "providers" not in known
    assert "testing" not in known


def test_users_code_runs_without_providers() -> None:
    """What runs in a worker fits in any process: it needs no contract, no provider and no engine."""
    known = {target for _, here, target in edges() if here == "worker"}

    assert known <= {"worker", "core", "clock", "cpython", "errors", "own_descriptor"}


def test_no_room_of_the_providers_imports_another() -> None:
    """Each contract has a room of its own, and what two of them need stands on a lower floor, or beside the rooms."""
    rooms = [
        (name_of(path).split("/")[1], target.split(".")[2], name_of(path))
        for path in MODULES
        if name_of(path).startswith("providers/") and name_of(path).count("/") > 1
        for target, _ in imports_of(path)
        if target.startswith("dotflow.providers.")
    ]

    assert [file for room, other, file in rooms if other not in (room, *BESIDE)] == []


def test_the_core_does_nothing() -> None:
    """What a workflow is: values and rules, without I/O, threads or processes."""
    doers = {
        "asyncio",
        "multiprocessing",
        "queue",
        "select",
        "selectors",
        "signal",
        "socket",
        "subprocess",
        "threading",
    }
    found = [
        f"{name_of(path)} imports {alias}"
        for path in MODULES
        if name_of(path).startswith("core/")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([name.name for name in node.names] if isinstance(node, ast.Import) else [node.module])
        if alias in doers
    ]

    assert found == []


def test_one_module_relies_on_cpython() -> None:
    """Private parts of the standard library, and the C API, are used in the module cpython only."""
    found = [
        f"{name_of(path)}:{node.lineno} {ast.unparse(node)}"
        for path in MODULES
        if name_of(path) != "cpython.py"
        for node in private_to_cpython(ast.parse(path.read_text()))
    ]

    assert found == []


def private_to_cpython(tree: ast.Module) -> Iterator[ast.expr | ast.stmt]:
    """`atexit._clear`, `ctypes.pythonapi`, `import _signal` and the like; `os._exit` is documented."""
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            imported.update(name for name in names if name in sys.stdlib_module_names)
            if any(name.startswith("_") for name in names):
                yield node
    for node in ast.walk(tree):
        owner = ast.unparse(node.value) if isinstance(node, ast.Attribute) else ""
        if isinstance(node, ast.Attribute) and (owner in imported or owner.startswith("sys.modules[")):
            is_private = node.attr.startswith("_") and not node.attr.startswith("__")
            if (is_private and node.attr != "_exit") or node.attr == "pythonapi":
                yield node


def test_time_comes_in_through_one_door() -> None:
    """Nobody reads a clock but the module clock."""
    clocks = {"time.time", "time.monotonic", "time.perf_counter", "datetime.now", "datetime.utcnow", "datetime.today"}
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        if name_of(path) != "clock.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in clocks
    ]

    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_catching_everything_says_why(path: Path) -> None:
    """`except Exception` stands only at a border with someone else's code, and its line says which."""
    text = path.read_text()
    comments = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    broad = [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & {ast.unparse(kind) for kind in kinds(node.type)})
    ]

    assert [f"{name_of(path)}:{line}" for line in broad if line not in comments] == []


def kinds(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """The first line of a file is its promise; so is that of every public class and function."""
    tree = ast.parse(path.read_text())
    missing = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)
        and not ast.get_docstring(node)
    ]

    assert ast.get_docstring(tree)
    assert missing == []
