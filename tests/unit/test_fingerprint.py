"""The fingerprint of a step's code: what it sees, and what it does not."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar

import pytest

from dotflow import action
from dotflow.code.bytecode import form_of
from dotflow.code.fingerprint import can_compare, fingerprint, renew

STEP = '''
"""A module."""
import enum
import functools
import json

import fp_helpers
from fp_helpers import clean, Table
from dotflow import action

LIMIT = 10
WORDS = {"a", "b", "c"}
NESTED = {"rates": [1.5, (2, 3)], "call": clean}
UNUSED = 1


class Color(enum.Enum):
    RED = 1
    BLUE = 2


def make(factor):
    def times(value: int) -> int:
        return value * factor

    return times


double = make(2)


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@logged
def half(value):
    return value / 2


@functools.lru_cache
def root(value):
    return value ** 0.5


@action
def fetch(url: str, size: int = 5) -> list:
    """Fetches a page."""
    # a comment
    rows = [clean(row) for row in url.split(",") if row not in WORDS]
    try:
        total = double(LIMIT)
    except ValueError:
        total = 0
    table = Table(rows)
    return [table.count(), total, NESTED, Color.RED, half(4), root(9), fp_helpers.shorten("x"), json.dumps(size)]


@action
class Report:
    """A class."""

    WIDTH = 80

    @action
    def load(self):
        return clean(self.WIDTH)

    @property
    def title(self):
        return "Report"


@action
def late(url):
    from fp_late import parse

    return parse(url)
'''

HELPERS = '''
import fp_deep
from fp_deep import strip

CUT = 3


def clean(row):
    """Cleans a row."""
    return strip(row).lower()


def shorten(text):
    return text[:CUT]


def unused(text):
    return text


class Base:
    def count(self):
        return len(self.rows)


class Table(Base):
    def __init__(self, rows):
        self.rows = rows
'''

DEEP = """
CHARS = " "


def strip(row, right=True):
    if right:
        return row.rstrip(CHARS)
    return row.lstrip(CHARS)


def unused():
    return 2
"""

LATE = """
from fp_deep import strip


def parse(url):
    return strip(url)
"""

FILES = {"fp_step": STEP, "fp_helpers": HELPERS, "fp_deep": DEEP, "fp_late": LATE}

#: What is edited: (step, module, old text, new text).
SEEN = {
    "an operator": ("fetch", "fp_step", "not in WORDS", "in WORDS"),
    "a constant of the step": ("fetch", "fp_step", "half(4)", "half(5)"),
    "a type of number": ("fetch", "fp_step", "half(4)", "half(4.0)"),
    "an exception that is caught": ("fetch", "fp_step", "except ValueError", "except KeyError"),
    "where a try ends": (
        "fetch",
        "fp_step",
        "    except ValueError:\n        total = 0\n",
        "    except ValueError:\n        total = 0\n    else:\n        total += 1\n",
    ),
    "a parameter's name": ("fetch", "fp_step", "size: int = 5", "length: int = 5, size=0"),
    "a default": ("fetch", "fp_step", "size: int = 5", "size: int = 6"),
    "a constant of the module": ("fetch", "fp_step", "LIMIT = 10", "LIMIT = 11"),
    "an element of a set": ("fetch", "fp_step", '"b", "c"}', '"b", "d"}'),
    "a number in a nested container": ("fetch", "fp_step", "(2, 3)", "(2, 4)"),
    "the value of a closure": ("fetch", "fp_step", "make(2)", "make(3)"),
    "the code of a closure": ("fetch", "fp_step", "value * factor", "value + factor"),
    "a member of an enum": ("fetch", "fp_step", "RED = 1", "RED = 3"),
    "the function in a decorator": ("fetch", "fp_step", "value / 2", "value / 3"),
    "a decorator": ("fetch", "fp_step", "return function(*args)\n", "return function(*args) + 1\n"),
    "the function in lru_cache": ("fetch", "fp_step", "** 0.5", "** 0.25"),
    "a helper of another module": ("fetch", "fp_helpers", ".lower()", ".upper()"),
    "a helper that is called through its module": ("fetch", "fp_helpers", "text[:CUT]", "text[CUT:]"),
    "a constant of another module": ("fetch", "fp_helpers", "CUT = 3", "CUT = 4"),
    "a helper two modules away": ("fetch", "fp_deep", "row.rstrip", "row.strip"),
    "a constant two modules away": ("fetch", "fp_deep", 'CHARS = " "', 'CHARS = "."'),
    "a default two modules away": ("fetch", "fp_deep", "right=True", "right=False"),
    "a method of a base class": ("fetch", "fp_helpers", "len(self.rows)", "len(self.rows) + 1"),
    "a method of a class step": ("Report", "fp_step", "clean(self.WIDTH)", "clean(self.title)"),
    "a property of a class step": ("Report", "fp_step", 'return "Report"', 'return "Draft"'),
    "a constant of a class step": ("Report", "fp_step", "WIDTH = 80", "WIDTH = 90"),
    "a helper of a class step": ("Report", "fp_helpers", ".lower()", ".upper()"),
    "a module that the step imports when it runs": ("late", "fp_late", "strip(url)", "strip(url, False)"),
    "a module that that one imports": ("late", "fp_deep", "row.rstrip", "row.strip"),
}

NOT_SEEN = {
    "a comment": ("fetch", "fp_step", "# a comment", "# another"),
    "a docstring": ("fetch", "fp_step", '"""Fetches a page."""', '"""Gets a page."""'),
    "no docstring": ("fetch", "fp_step", '    """Fetches a page."""\n', ""),
    "an annotation": ("fetch", "fp_step", "url: str", "url: bytes"),
    "a return annotation": ("fetch", "fp_step", "-> list:", "-> object:"),
    "blank lines above": ("fetch", "fp_step", "LIMIT = 10", "\n\n\nLIMIT = 10"),
    "a comprehension over several lines": (
        "fetch",
        "fp_step",
        '[clean(row) for row in url.split(",") if row not in WORDS]',
        '[\n        clean(row)\n        for row in url.split(",")\n        if row not in WORDS\n    ]',
    ),
    "a call over several lines": ("fetch", "fp_step", "double(LIMIT)", "double(\n            LIMIT,\n        )"),
    "quotes": ("fetch", "fp_step", 'shorten("x")', "shorten('x')"),
    "the order of a set": ("fetch", "fp_step", '{"a", "b", "c"}', '{"c", "b", "a"}'),
    "an equal expression of constants": ("fetch", "fp_step", "half(4)", "half(2 + 2)"),
    "an unused constant": ("fetch", "fp_step", "UNUSED = 1", "UNUSED = 2"),
    "an unused function": ("fetch", "fp_helpers", "def unused(text):\n    return text", "def unused(t):\n    return 1"),
    "an unused function two modules away": ("fetch", "fp_deep", "return 2", "return 3"),
    "the docstring of a helper": ("fetch", "fp_helpers", '"""Cleans a row."""', '"""Cleans it."""'),
    "another step": ("fetch", "fp_step", "WIDTH = 80", "WIDTH = 90"),
    "the docstring of a class step": ("Report", "fp_step", '"""A class."""', '"""Another."""'),
    "the docstring of the module": ("late", "fp_late", "from fp_deep", '"""Late."""\n\nfrom fp_deep'),
    "the policy": ("fetch", "fp_step", "@action\ndef fetch", "@action(retry=3, timeout=5)\ndef fetch"),
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that writes the modules, imports them and returns a step."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(step: str, files: dict[str, str]) -> Any:
        for name in FILES:
            sys.modules.pop(name, None)
            (tmp_path / f"{name}.py").write_text(files[name])
        importlib.invalidate_caches()
        return getattr(importlib.import_module("fp_step"), step)

    yield load
    for name in FILES:
        sys.modules.pop(name, None)


def code(step: Any) -> str:
    return fingerprint(getattr(step, "__dotflow_action__", step))


def edited(module: str, old: str, new: str) -> dict[str, str]:
    assert FILES[module].count(old) == 1, old
    return {**FILES, module: FILES[module].replace(old, new)}


@pytest.mark.parametrize("edit", SEEN)
def test_an_edit_changes_the_fingerprint(edit: str, load: Callable[..., Any]) -> None:
    """Code, constants, defaults and closures count, through all modules of the user's own."""
    step, module, old, new = SEEN[edit]

    assert code(load(step, FILES)) != code(load(step, edited(module, old, new)))


@pytest.mark.parametrize("edit", NOT_SEEN)
def test_an_edit_leaves_the_fingerprint(edit: str, load: Callable[..., Any]) -> None:
    """Comments, docstrings, layout, annotations and what the step does not use don't count."""
    step, module, old, new = NOT_SEEN[edit]

    assert code(load(step, FILES)) == code(load(step, edited(module, old, new)))


#: Edits of single steps that change the fingerprint: the text, what is edited, and what it becomes.
CHANGES = {
    "a class in an alias": ("class R:\n    x = 1\nrows = list[R]\nstep = lambda: parse(rows)", "x = 1", "x = 2"),
    "a long text": ("text = 'a' * 5000\nstep = lambda: text", "5000", "5001"),
    "the end of a long pattern": ("import re\nk = re.compile('a' * 300 + 'b')\nstep = lambda: k", "'b'", "'c'"),
    "a sign of zero": ("step = lambda: f(0.0)", "0.0", "-0.0"),
    "a partial method": (
        "import functools\nclass A:\n    def f(self, n): ...\n    g = functools.partialmethod(f, 1)\nstep = lambda: A",
        "(f, 1)",
        "(f, 2)",
    ),
    "a function of singledispatch": (
        "import functools\n@functools.singledispatch\ndef f(x): return x\n"
        "@f.register\ndef g(x: int): return x + 1\nstep = lambda: f(1)",
        "x + 1",
        "x + 2",
    ),
    "a method of singledispatchmethod": (
        "import functools\nclass A:\n    @functools.singledispatchmethod\n    def f(self, x): return x\n"
        "    @f.register\n    def g(self, x: int): return x + 1\nstep = lambda: A",
        "x + 1",
        "x + 2",
    ),
    "the default of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\nstep = lambda: A()",
        "= 1",
        "= 2",
    ),
    "a field of a NamedTuple": (
        "from typing import NamedTuple\nclass A(NamedTuple):\n    x: int\nstep = lambda: A(1)",
        "x: int",
        "y: int",
    ),
    "a function in contextmanager": (
        "import contextlib\n@contextlib.contextmanager\ndef f(): yield 1\nstep = lambda: f()",
        "yield 1",
        "yield 2",
    ),
    "a nested Pydantic model": (
        "from pydantic import BaseModel\nclass B(BaseModel):\n    y: int = 1\nclass A(BaseModel):\n    x: list[B]\n"
        "step = lambda: A(x=[])",
        "y: int = 1",
        "y: int = 2",
    ),
    "a constraint of a Pydantic model": (
        "from pydantic import BaseModel, Field\nclass A(BaseModel):\n    x: int = Field(1, gt=0)\nstep = lambda: A()",
        "gt=0",
        "gt=1",
    ),
    "a validator of a Pydantic model": (
        "from typing import Annotated\nfrom pydantic import AfterValidator, BaseModel\ndef plus(x): return x + 1\n"
        "class A(BaseModel):\n    x: Annotated[int, AfterValidator(plus)] = 1\nstep = lambda: A()",
        "x + 1",
        "x + 2",
    ),
    "a callable instance": ("class A:\n    def __call__(self): return 1\nstep = A()", "return 1", "return 2"),
    "an order of a dict": ("k = {1: 2, 3: 4}\nstep = lambda: k", "{1: 2, 3: 4}", "{3: 4, 1: 2}"),
}


@pytest.mark.parametrize("edit", CHANGES)
def test_a_change_of_a_single_step_is_seen(edit: str) -> None:
    """Of all kinds of helpers and constants. The same text twice has the same fingerprint."""

    def code_of(text: str) -> str:
        namespace: dict[str, Any] = {"__name__": "fp_single"}
        exec(text, namespace)
        return code(action(namespace["step"]))

    text, old, new = CHANGES[edit]

    assert old in text
    assert code_of(text) == code_of(text) != code_of(text.replace(old, new))


def test_all_processes_make_the_same_fingerprint(tmp_path: Path) -> None:
    """The hash seed of a process, and what it imported or ran before, don't matter."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    script = """
    import sys
    if len(sys.argv) > 1:
        import fp_late, fp_deep
        fp_deep.strip("a ")
    import fp_step
    from dotflow.code.fingerprint import fingerprint
    if len(sys.argv) > 1:
        fp_step.fetch("a,b")
        fp_step.late("a")
    print(fingerprint(fp_step.fetch), fingerprint(fp_step.Report.__dotflow_action__), fingerprint(fp_step.late))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))

    def run(seed: int) -> str:
        command = [sys.executable, str(tmp_path / "script.py"), *["ran"] * (seed % 2)]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert len({run(seed) for seed in range(1, 7)}) == 1


def test_a_fingerprint_is_made_once(load: Callable[..., Any]) -> None:
    """A list of the module that the step fills does not change it."""
    step = load("fetch", FILES)
    before = code(step)
    sys.modules["fp_step"].LIMIT = 12  # type: ignore[attr-defined]

    assert code(step) == before


def test_other_pythons_can_not_be_compared() -> None:
    """Bytecode is the same within one minor version. A declared version is comparable everywhere."""
    assert not can_compare("3.11:ab", "3.12:ab")
    assert can_compare("3.11:ab", "3.11:cd")
    assert can_compare("version 1", "version 2")
    assert not can_compare("version 1", "3.11:ab")


def test_a_version_replaces_the_code() -> None:
    """With `version`, only that counts."""
    one = action(version="1")(lambda: 1)
    other = action(version="1")(lambda: 2)
    newer = action(version="2")(lambda: 2)

    assert fingerprint(one) == fingerprint(other) != fingerprint(newer)


def test_steps_without_python_code_have_a_fingerprint() -> None:
    """Built-in functions, partials, bound methods, instances and recursive values."""
    import functools

    loop: list[Any] = []
    loop.append(loop)

    class Model:
        def __init__(self) -> None:
            self.fits = 0

        def __call__(self) -> Any:
            return loop

        def _fit(self) -> Any:
            return self._fit

    def recursive(depth: int) -> Any:
        return recursive(depth - 1) if depth else loop

    steps = [len, functools.partial(recursive, 3), Model(), Model()._fit, Model, recursive, sorted, str.upper, dict]

    assert len({code(action(step)) for step in steps}) == len(steps)  # type: ignore[call-overload]


def test_a_pydantic_models_fields_count() -> None:
    """Their defaults and types: Pydantic takes them out of the class."""
    import pydantic

    def step(kind: type, default: Any) -> Any:
        class Model(pydantic.BaseModel):
            size: kind = default  # type: ignore[valid-type]
            rows: list[int] = pydantic.Field(default_factory=list)

        return action(lambda: Model())

    codes = [code(step(kind, default)) for kind, default in ((int, 1), (int, 2), (str, 1), (int, 1))]

    assert len(set(codes)) == 3
    assert codes[0] == codes[3]


def test_a_class_may_have_an_attribute_of_pydantics_name() -> None:
    """It is no Pydantic model."""

    class Plain:
        model_fields: ClassVar = {"a": 1}

    assert code(action(lambda: Plain()))


def test_values_of_the_environment_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a constant that is made from it does."""
    environment = os.environ

    def step() -> Any:
        return action(lambda: environment)

    before = code(step())
    monkeypatch.setenv("ANYTHING", "else")

    assert code(step()) == before


def test_code_that_can_not_be_read_has_no_fingerprint() -> None:
    """A value that is nested too deep, or constants of more values than are read; the run goes on."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    large = dict.fromkeys(range(100_000))

    assert code(action(lambda: deep)) == code(action(lambda: large)) == ""


def test_the_users_own_code_does_not_run() -> None:
    """Neither of lazy objects and modules, nor of properties and subclasses of containers."""

    class Lazy:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

        def __repr__(self) -> str:
            raise AssertionError

        __class__ = __dict__ = property(lambda self: pytest.fail("it was read"))  # type: ignore[assignment]

    class Items(dict[str, int]):
        def items(self) -> Any:
            raise AssertionError

    class LazyModule(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    values = [Lazy(), Items(a=1), LazyModule("lazy"), {Lazy()}]

    assert all(code(action(lambda value=value: value)) for value in values)  # type: ignore[misc]


SOURCES = ["argparse", "difflib", "enum", "dataclasses", "textwrap", "json.decoder", "asyncio.base_events"]


@pytest.mark.parametrize("module", SOURCES)
def test_layout_does_not_count(module: str) -> None:
    """The same source with another layout has the same form: unparsed, it has one statement a line."""

    def functions(code: CodeType) -> Iterator[CodeType]:
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                yield from (inner,) if inner.co_flags & inspect.CO_OPTIMIZED else functions(inner)

    def shapes(source: str) -> list[str]:
        return [form_of(code).shape for code in functions(compile(source, "m", "exec"))]

    path = importlib.import_module(module).__file__
    assert path is not None
    source = Path(path).read_text()
    one, other = shapes(source), shapes(ast.unparse(ast.parse(source)))
    different = sum(a != b for a, b in zip(one, other, strict=True))

    assert different <= len(one) // 50  # 3.11 lays out a few jumps by line, and 3.12 comprehensions with a condition


NOTEBOOK = """
RATE, COUNT, SEEN = 1, 0, []

def helper():
    return 1

def step():
    global COUNT
    COUNT += 1
    SEEN.append(COUNT)
    return helper() * RATE
"""


@pytest.mark.parametrize("cell", ["RATE = 2", "def helper():\n    return 2"])
def test_new_definitions_count_from_the_next_run_on(cell: str) -> None:
    """As in a notebook. What the step itself has changed does not."""
    notebook: dict[str, Any] = {"__name__": "notebook"}
    exec(NOTEBOOK, notebook)
    step = action(notebook["step"])
    first = renew(step)
    step()

    assert renew(step) == first
    exec(cell, notebook)
    assert fingerprint(step) == first
    assert renew(step) != first
    exec(NOTEBOOK.partition("def step")[0], notebook)
    assert renew(step) == first
