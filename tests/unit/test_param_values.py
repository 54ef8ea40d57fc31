"""Values of start(params=...): their types are checked before anything runs, and texts become dates and the like."""

import enum
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Protocol, TypedDict, TypeVar

import numpy as np
import pydantic
import pytest

from dotflow import DotFlow, Secret, action
from dotflow.cli.load import build
from dotflow.errors import InvalidArgument
from dotflow.graph.params import resolve
from dotflow.providers import LogDefault


class Size(enum.Enum):
    SMALL = "small"
    BIG = 2


class Level(enum.StrEnum):
    LOW = "low"


class Named(Protocol):
    name: str


class Row(TypedDict):
    day: str


class Later(date):
    """A subclass."""


T = TypeVar("T")
Day = NewType("Day", date)
NOV_3 = date(2026, 11, 3)


def workflow(annotation: Any = None, default: Any = ..., **params: Any) -> DotFlow:
    """A workflow whose step takes `x`, with an annotation unless it is None."""

    def step(x: Any) -> Any:
        return x

    step.__annotations__ = {} if annotation is None else {"x": annotation}
    made = DotFlow(workflow_id="w", params={"x": default, **params})
    made.task.add(action(step))
    return made


def given(value: Any, annotation: Any = None, default: Any = ...) -> Any:
    """What the step is given."""
    made = workflow(annotation, default)
    made.start(params={"x": value}).raise_for_failure()
    return made.result_storage()[0]


@pytest.mark.parametrize(
    ("annotation", "default", "text", "value"),
    [
        (date, ..., "2026-11-03", NOV_3),
        (date, None, "2026-11-03", NOV_3),
        (None, date(2026, 1, 1), "2026-11-03", NOV_3),
        (object, date(2026, 1, 1), "2026-11-03", NOV_3),
        (Any, Path("x"), "a/b", Path("a/b")),
        (date | None, ..., "2026-11-03", NOV_3),
        (Annotated[date, "a day"], ..., "2026-11-03", NOV_3),
        (Day, ..., "2026-11-03", NOV_3),
        ("date", ..., "2026-11-03", NOV_3),
        (datetime, ..., "2026-11-03T02:30", datetime(2026, 11, 3, 2, 30)),
        (Path, ..., "a/b", Path("a/b")),
        (None, Path("x"), "a/b", Path("a/b")),
        (Size, ..., "small", Size.SMALL),
        (Size, ..., "BIG", Size.BIG),
        (Size, ..., "2", Size.BIG),
        (Level, ..., "low", Level.LOW),
        (None, Size.SMALL, "BIG", Size.BIG),
    ],
)
def test_a_text_becomes_a_date_datetime_path_or_enum(annotation: Any, default: Any, text: str, value: object) -> None:
    """As on the command line; the id of the run is that of the value itself."""
    found = given(text, annotation, default)

    made = workflow(annotation, default)
    assert (found, type(found)) == (value, type(value))
    assert made.id_of_run({"x": text}) == made.id_of_run({"x": value})


@pytest.mark.parametrize(
    ("annotation", "default", "value"),
    [
        (date, ..., date.today),
        (date, ..., "today"),
        (date, ..., 5),
        (date, ..., None),
        (date | None, ..., "today"),
        (datetime, ..., NOV_3),
        (None, date(2026, 1, 1), date.today),
        (None, date(2026, 1, 1), 20261103),
        (None, 100, "100"),
        (None, 100, 1.5),
        (None, "all", 5),
        (None, [1], "a,b"),
        (None, False, 1),
        (int, ..., "5"),
        (int, ..., 0.5),
        (float, ..., "0.5"),
        (str, ..., NOV_3),
        (list[int], ..., "1,2"),
        (Mapping[str, int], ..., [1]),
        (Size, ..., "small "),
        (Size, ..., 2),
        (int | float, ..., "5"),
        (Literal["fast", "slow"], ..., "quick"),
        (Callable[[], int], ..., 5),
    ],
)
def test_a_value_of_another_type_is_refused(annotation: Any, default: Any, value: object) -> None:
    """By `start`, `plan` and `schedule`, before anything runs."""
    made = workflow(annotation, default)
    ways = (made.start, made.plan, made.schedule, made.check_start)

    for way in ways:
        with pytest.raises(InvalidArgument, match=r"^params\['x'\]=.* is not accepted\. Pass "):
            way(params={"x": value})  # type: ignore[operator]
    assert made.result_task()[0].status == "Not started"


@pytest.mark.parametrize(
    ("annotation", "default", "value"),
    [
        (float, ..., 1),
        (None, 0.5, 1),
        (complex, ..., 1.5),
        (int, ..., True),  # a bool is an int
        (int, ..., np.int64(5)),
        (float, ..., np.float32(0.5)),
        (bool, ..., np.True_),
        (pydantic.EmailStr, ..., "a@b.de"),
        (float, ..., Fraction(1, 2)),
        (date, ..., datetime(2026, 11, 3, tzinfo=UTC)),  # a datetime is a date
        (date, ..., Later(2026, 11, 3)),
        (date | None, ..., None),
        (int | None, 5, None),
        (None, 100, None),  # often stands for the default
        (int, None, None),
        (int | str, ..., "5"),
        (date | str, ..., "2026-11-03"),
        (list[int], ..., [1]),
        (list[int], ..., (1, 2)),
        (tuple[int, ...], ..., [1]),
        (Sequence[str], ..., ["a"]),
        (Iterable[str], ..., "ab"),
        (dict[str, int], ..., {"a": 1}),
        (Row, ..., {"day": "x"}),
        (Named, ..., 5),
        (T, ..., 5),
        (list[T], ..., [5]),  # type: ignore[valid-type]
        (Any, ..., 5),
        (object, ..., 5),
        (object, NOV_3, "yesterday"),
        (Any, 3, "x"),
        (Literal[1, "a"], ..., "a"),
        ("Unknown", ..., 5),
        ("list[Unknown]", ..., 5),
        (type[int], ..., int),
        (Callable[[], int], ..., max),
        (Decimal, ..., Decimal("0.5")),
        (None, timedelta(days=1), timedelta(days=2)),
        (None, Named, 5),
        (None, ..., date.today),
    ],
)
def test_nothing_is_refused_that_may_fit(annotation: Any, default: Any, value: object) -> None:
    """Subclasses, numbers, unions, generics and what can't be judged: the value is passed on as it is."""
    made = workflow(annotation, default)

    assert resolve(made.params, {"x": value}, made.task)["x"] is value


def test_the_error_names_acceptable_values() -> None:
    """The parameter, the value, what to pass, and for a function that it is to be called."""
    made = workflow(date)

    with pytest.raises(InvalidArgument) as caught:
        made.start(params={"x": date.today})
    assert str(caught.value) == (
        f"params['x']={date.today!r} is not accepted. Pass a date, such as 2026-11-25. "
        f"Call the function, and pass its value."
    )
    with pytest.raises(InvalidArgument, match=r"^params\['x'\]='3 November' is not accepted. Pass a date"):
        made.start(params={"x": "3 November"})
    with pytest.raises(InvalidArgument, match=r"Pass a value of type Decimal\.$"):
        workflow(Decimal).start(params={"x": 0.5})


def test_each_step_that_takes_it_counts() -> None:
    """A value that fits one of them is passed on, and the first date parses a text."""
    made = DotFlow(params={"x": ...})

    @action
    def one(x):  # type: ignore[no-untyped-def]
        return x

    @action
    def two(day: date) -> date:
        return day

    made.task.add(one).add(two, needs={"day": "x"})
    made.start(params={"x": "2026-11-03"}).raise_for_failure()

    assert made.result_storage() == [NOV_3, NOV_3]
    with pytest.raises(InvalidArgument):
        made.start(params={"x": 5})


def test_a_decorator_may_convert_it() -> None:
    """What a decorator makes of a value is not known, so only texts that are dates are parsed."""

    def ints(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(x: Any) -> Any:
            return function(int(x))

        return wrapper

    def double(x: int) -> int:
        return 2 * x

    made = DotFlow(params={"x": ...})
    made.task.add(action(ints(double)))
    made.start(params={"x": "5"}).raise_for_failure()

    assert made.result_storage() == [10]


def test_steps_of_an_added_workflow_count() -> None:
    """Their parameters are those of the whole."""
    inner = workflow(date)
    made = DotFlow(params={"x": ...})
    made.task.add(inner, name="inner")

    made.start(params={"x": "2026-11-03"}).raise_for_failure()

    assert made.result_storage() == [NOV_3]
    with pytest.raises(InvalidArgument, match=r"params\['x'\]=5 is not accepted"):
        made.start(params={"x": 5})


def test_a_class_and_its_parameters_count() -> None:
    """Those of its __init__."""

    @action
    class Report:
        def __init__(self, x: date) -> None:
            self.x = x

    made = DotFlow(params={"x": ...})
    made.task.add(Report)

    made.plan(params={"x": "2026-11-03"})
    with pytest.raises(InvalidArgument):
        made.plan(params={"x": 5})


def test_a_secret_is_no_value() -> None:
    """It is the default of a step's parameter."""
    with pytest.raises(InvalidArgument, match="A Secret is the default of a step's parameter"):
        workflow(str).start(params={"x": Secret("TOKEN")})


JOBS = """
from datetime import date
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageDefault

@action
def fetch(day: date, limit): ...

def build(storage=None, retries=3):
    made = DotFlow(Config(storage=storage or StorageDefault()), workflow_id="daily", params={"day": ..., "limit": 100})
    made.task.add(fetch)
    return made
"""


@pytest.mark.parametrize("given_params", [{"day": "2026-11-03"}, {"day": NOV_3}, {"day": NOV_3, "limit": 100}])
def test_the_command_line_and_a_program_have_one_id(
    given_params: dict[str, Any], modules: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a factory that has arguments of its own, such as a storage for tests: these name no run."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(LogDefault, "note", lambda *_: None)
    modules["jobs"] = JOBS
    loaded = build({"step": (), "workflow": "jobs:build", "param": ["day=2026-11-03"]})
    program = sys.modules["jobs"].build()

    assert loaded.workflow.id_of_run(loaded.params) == "daily@day=2026-11-03"
    assert program.id_of_run(given_params) == "daily@day=2026-11-03"
    assert program.start(params=given_params).workflow_id == "daily@day=2026-11-03"
