"""Modules that live in memory, and time that stands still until a test moves it."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

from dotflow import clock


class MemoryImporter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from texts. A name with members below it is a package."""

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.sources:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in self.sources)
        return importlib.machinery.ModuleSpec(fullname, self, origin="memory", is_package=is_package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.sources[module.__name__], f"<{module.__name__}>", "exec"), module.__dict__)


@pytest.fixture
def modules() -> Iterator[dict[str, str]]:
    """Modules that can be imported during the test: name -> source."""
    importer = MemoryImporter()
    before = set(sys.modules)
    sys.meta_path.append(importer)
    yield importer.sources
    sys.meta_path.remove(importer)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {source.partition(".")[0] for source in importer.sources}:
            del sys.modules[name]


class FakeTime:
    """A clock that goes forward only when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def move(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """dotflow's clock, in the test's hands."""
    fake = FakeTime()
    monkeypatch.setattr(clock, "monotonic", fake.monotonic)
    monkeypatch.setattr(clock, "now", fake.now)
    return fake


@pytest.fixture
def raised() -> Callable[..., BaseException]:
    """Calls a function that must raise, and gives the exception with its traceback."""

    def catch(function: Callable[..., object], *arguments: object) -> BaseException:
        with pytest.raises(BaseException) as caught:
            function(*arguments)
        return caught.value

    return catch
