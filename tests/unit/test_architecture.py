"""The house's floors and rules, held by reading the source. Each rule is one test, which lists all that break it."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import dotflow

pytestmark = pytest.mark.timeout(60)  # the first one parses all files

SRC = Path(dotflow.__file__).parent
MODULES = sorted(SRC.rglob("*.py"))

#: The floor of each room and of each module at the top. Imports go to lower floors only: neighbours import nothing of
#: each other.
FLOORS = {
    "__main__": 12,
    "cli": 11,
    "workflow": 10,
    "__init__": 10,
    "ui": 10,
    "serving": 10,
    "testing": 10,
    "agents": 9,
    "config": 9,
    "control": 9,
    "engine": 8,
    "providers": 8,
    "processes": 7,
    "capture": 6,
    "resume": 6,
    "report": 6,
    "abc": 5,
    "records": 4,
    "graph": 3,
    "calls": 3,
    "code": 2,
    "worker": 2,
    "codec": 2,
    "core": 1,
    "errors": 0,
    "clock": 0,
    "cpython": 0,
    "atomic_file": 0,
    "own_descriptor": 0,
}

#: What a room leaves alone although it stands on a lower floor. The engine reaches processes through contracts; what
#: runs in a worker fits in any process, so it writes no file, but those of the step.
KEPT_OUT = {"engine": {"processes", "own_descriptor"}, "worker": {"atomic_file"}}

#: Modules of the providers that several rooms use.
BESIDE = ("optional", "postgres", "redact", "sqlite_errors", "sqlite_file", "text_escape")

#: Private by name, and used of other objects: what the standard library documents; the connection of a client of
#: Google, which has no other name; what the core's records have for the rooms that follow a run.
NOT_PRIVATE = {
    *("_asdict", "_exit", "_fields", "_make", "_name_", "_replace", "_value_"),
    "_http",
    *("_add_items", "_apply", "_begin_later", "_complete", "_current", "_initial", "_links", "_new_record", "_of"),
    *("_open_round", "_origin", "_previous", "_rounds", "_set_inputs", "_snapshot", "_source", "_steps"),
}

#: A file or a room that docs/design.md names.
NAMED = re.compile(r"`([\w/]+\.py|[\w/]+/)`")
MAX_WORDS = 4_000  # of docs/design.md: five minutes of reading, and some for the tables


def name_of(path: Path) -> str:
    """How a file is called in the lists here: engine/run.py."""
    return path.relative_to(SRC).as_posix()


def module_of(path: Path) -> str:
    """The name under which a file is imported: dotflow.engine.run; a package stands for its __init__.py."""
    return ".".join(["dotflow", *path.relative_to(SRC).with_suffix("").parts]).removesuffix(".__init__")


#: All modules of ours.
NAMES = {module_of(path) for path in MODULES}


@cache
def parse(path: Path) -> ast.Module:
    """A file's syntax tree, which no test changes."""
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Each module of ours that a file imports, wherever the import stands; a type checker's imports count, too."""
    found: list[str] = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import"
            # `from dotflow import clock` and `from dotflow.engine import plan` name modules, too.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in NAMES else str(node.module) for name in names]
    return frozenset(name for name in found if name.partition(".")[0] == "dotflow")


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
        for target in imports_of(path):
            found.append((name_of(path), here, package_of(target) if "." in target else "__init__"))
    return found


def test_every_part_of_the_house_has_its_floor() -> None:
    """A new package or module at the top is given a floor here, and in docs/design.md."""
    parts = {name_of(path).removesuffix(".py").split("/")[0] for path in MODULES} - {"__init__"}

    assert parts <= set(FLOORS)


def test_the_design_names_every_room_and_only_what_is_there() -> None:
    """docs/design.md is short, has all rooms, and each file or folder that it names exists."""
    root = SRC.parent.parent
    design = (root / "docs" / "design.md").read_text()
    rooms = set(FLOORS) - {"__main__", "__init__"}
    named = {name for name in NAMED.findall(design) if not name.startswith("src/")}
    folders = (root, SRC, *(folder for folder in SRC.rglob("*") if folder.is_dir()))

    assert [room for room in sorted(rooms) if f"`{room}`" not in design] == []
    assert [name for name in sorted(named) if not any((folder / name).exists() for folder in folders)] == []
    assert len(design.split()) <= MAX_WORDS


def test_every_module_says_what_it_is() -> None:
    """The first line of a module is its place in the design."""
    assert [
        name_of(path) for path in MODULES if path.name != "__init__.py" and not ast.get_docstring(parse(path))
    ] == []


def test_imports_go_down() -> None:
    """A module imports from its own package and from lower floors only; neighbours don't import each other."""
    wrong = [
        f"{file} ({here}, floor {FLOORS[here]}) imports {target} (floor {FLOORS.get(target, 'none')})"
        for file, here, target in edges()
        if here != target and FLOORS.get(target, 99) >= FLOORS[here]
    ]

    assert wrong == []


def test_the_engine_knows_no_process_and_a_worker_no_file() -> None:
    """Where attempts are made does not change how a run is decided, and users' code runs in any process."""
    wrong = [f"{file} imports {target}" for file, here, target in edges() if target in KEPT_OUT.get(here, ())]

    assert wrong == ["worker/atomic_path.py imports atomic_file"]


def test_no_files_import_each_other_in_a_circle() -> None:
    """Files import each other in one direction, inside of a room, too. Late imports and those of a checker count."""
    assert circles() == set()


def circles() -> set[tuple[str, ...]]:
    """The modules that import each other, directly or through others; not the face, which loads on first use."""
    graph = {module_of(path): imports_of(path) - {"dotflow", module_of(path)} for path in MODULES}
    del graph["dotflow"]
    reached = {module: reached_from(module, graph) for module in graph}
    found = {
        tuple(other for other in graph if other in reached[module] and module in reached[other]) for module in graph
    }
    return found - {()}


def reached_from(module: str, graph: dict[str, frozenset[str]]) -> set[str]:
    """All that a module imports, directly or through others."""
    found, ahead = set[str](), [module]
    while ahead:
        new = graph[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def test_no_room_of_the_providers_imports_another() -> None:
    """Each contract has a room of its own, and what two of them need stands on a lower floor, or beside the rooms."""
    rooms = [
        (name_of(path).split("/")[1], target.split(".")[2], name_of(path))
        for path in MODULES
        if name_of(path).startswith("providers/") and name_of(path).count("/") > 1
        for target in imports_of(path)
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
        for node in ast.walk(parse(path))
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
        for node in private_to_cpython(parse(path))
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


def test_private_names_stay_in_their_room() -> None:
    """What another room uses of an object is one of its public names."""
    own: dict[str, set[str]] = {}
    for path in MODULES:
        own.setdefault(room_of(path), set()).update(defined_in(parse(path)))
    found = [
        f"{name_of(path)}:{node.lineno} {ast.unparse(node)}"
        for path in MODULES
        if name_of(path) != "cpython.py"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if ast.unparse(node.value) not in ("self", "cls", "super()")
        if node.attr not in own[room_of(path)] | NOT_PRIVATE
    ]

    assert found == []


def room_of(path: Path) -> str:
    """The room of a file; those of the providers are rooms of their own."""
    parts = name_of(path).split("/")
    return "/".join(parts[: 2 if parts[0] == "providers" and len(parts) > 2 else 1])


def defined_in(tree: ast.Module) -> Iterator[str]:
    """The functions, classes, names and attributes of `self` and `cls` that a file defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner, _, name = ast.unparse(node).rpartition(".")
            if owner in ("", "self", "cls"):
                yield name


def test_time_comes_in_through_one_door() -> None:
    """Only the module clock reads a clock."""
    clocks = {"time.time", "time.monotonic", "time.perf_counter", "datetime.now", "datetime.utcnow", "datetime.today"}
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        if name_of(path) != "clock.py"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in clocks
    ]

    assert found == []


def test_catching_everything_says_why() -> None:
    """`except Exception` stands only at a border with someone else's code, and its line says which."""
    unexplained = [
        f"{name_of(path)}:{line}"
        for path in MODULES
        if (broad := broad_handlers(parse(path)))
        for line in sorted(broad - lines_with_comments(path.read_text()))
    ]

    assert unexplained == []


def broad_handlers(tree: ast.Module) -> set[int]:
    """The lines of `except:`, `except Exception` and `except BaseException`."""
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & {ast.unparse(kind) for kind in kinds(node.type)})
    }


def lines_with_comments(text: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def kinds(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def test_every_module_has_a_docstring() -> None:
    """The first line of a file is its promise; so is that of every public class and function."""
    missing = [
        f"{name_of(path)}: {node.name}"
        for path in MODULES
        for node in parse(path).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)
        and not ast.get_docstring(node)
    ]

    assert [name_of(path) for path in MODULES if not ast.get_docstring(parse(path))] == []
    assert missing == []
