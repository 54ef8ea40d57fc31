"""A class of a script has one name, whether the script runs as `__main__` or is imported."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from dotflow.codec import decode, encode
from dotflow.codec.canonical import digest
from dotflow.errors import CheckpointUnreadable

SOURCE = """
import dataclasses, enum
import pydantic

@dataclasses.dataclass
class Row:
    city: str

class Kind(enum.Enum):
    WET = 1

class Station(pydantic.BaseModel):
    kind: Kind
    rows: list[Row]

def make():
    return Station(kind=Kind.WET, rows=[Row("Seattle")])
"""

Load = Callable[..., ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Builds a module from SOURCE and registers it as if it had been run, or imported, under that name."""

    def load(name: str, **facts: Any) -> ModuleType:
        module = ModuleType(name)
        vars(module).update(facts, __builtins__=__builtins__)
        monkeypatch.setitem(sys.modules, name, module)
        exec(SOURCE, vars(module))  # as runpy does
        return module

    return load


RUNS = {
    "python weather.py": ("weather", {"__file__": "weather.py", "__spec__": None}),
    "python /srv/jobs/weather.py": ("weather", {"__file__": "/srv/jobs/weather.py"}),
    "python -m weather": ("weather", {"__file__": "/srv/weather.py", "__spec__": ModuleSpec("weather", None)}),
    "python -m pkg.jobs": ("pkg.jobs", {"__file__": "/srv/pkg/jobs.py", "__spec__": ModuleSpec("pkg.jobs", None)}),
    "python -m pkg": (
        "pkg.__main__",
        {"__file__": "/srv/pkg/__main__.py", "__spec__": ModuleSpec("pkg.__main__", None)},
    ),
}


@pytest.mark.parametrize(("name", "facts"), RUNS.values(), ids=list(RUNS))
def test_a_script_and_the_same_module_imported_read_each_others_values(
    load: Load, monkeypatch: pytest.MonkeyPatch, name: str, facts: dict[str, Any]
) -> None:
    """Each reads the other's values as values of its own classes, and the digests are the same."""
    main = load("__main__", **facts)
    as_script, digest_there = encode(main.make()), digest(main.make())
    assert decode(as_script) == main.make()
    assert type(decode(as_script)) is main.Station
    as_module = as_script.replace("__main__/", "")
    assert type(decode(as_module)) is main.Station

    load("__main__", __file__="/usr/bin/other")  # the command, for instance
    module = load(name)
    assert (encode(module.make()), digest(module.make())) == (as_module, digest_there)
    found = decode(as_script)
    assert type(found) is module.Station
    assert type(found.rows[0]) is module.Row
    assert found.kind is module.Kind.WET


def test_a_script_that_was_renamed_finds_its_values(load: Load) -> None:
    """The script itself is searched after another module of the old name."""
    text = encode(load("__main__", __file__="weather.py").make())
    renamed = load("__main__", __file__="climate.py")

    assert type(decode(text)) is renamed.Station

    weather = load("weather")
    assert type(decode(text)) is weather.Station


@pytest.mark.parametrize(
    "facts",
    [{}, {"__file__": "/srv/my-script.py"}, {"__file__": "/srv/class.py"}, {"__spec__": ModuleSpec("__main__", None)}],
    ids=["python -c", "no module's name", "a keyword", "a folder"],
)
def test_a_class_that_can_not_be_imported_keeps_its_name(load: Load, facts: dict[str, Any]) -> None:
    """Its values are readable when it runs again."""
    main = load("__main__", **facts)

    text = encode(main.make())

    assert '"__main__:Row"' in text
    assert decode(text) == main.make()


def test_a_script_that_is_imported_as_well_is_two_modules(load: Load) -> None:
    """Each class then has the name of its own module, so that the two are not confused."""
    main, module = load("__main__", __file__="weather.py"), load("weather")

    assert type(decode(encode(main.make()))) is main.Station
    assert type(decode(encode(module.make()))) is module.Station


def test_a_script_is_not_taken_for_another_module(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its own name leads to a script, and nothing is imported to find a class."""
    load("__main__", __file__="weather.py")

    for name in ("pkg.weather", "weathers", "weather.weather", "other"):
        with pytest.raises(CheckpointUnreadable, match="has not imported"):
            decode(f'{{"$dataclass": ["{name}:Row", {{"city": "Seattle"}}]}}')
