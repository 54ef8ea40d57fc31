"""The values of --param, for factories, workflows and steps."""

import enum
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from dotflow.cli.formatting import error_line
from dotflow.cli.load import Loaded, build, convert, load, parse_params
from dotflow.errors import DotflowError, MissingParam, UnknownParam
from dotflow.graph.param_types import type_of_default
from dotflow.providers import LogDefault

JOBS = """
from __future__ import annotations
from collections.abc import Sequence
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal
from dotflow import Config, DotFlow, action

if TYPE_CHECKING:
    from pandas import DataFrame

class Size(Enum):
    SMALL = "small"
    BIG = "big"

@action
def orders(day: date, limit: int = 10, ratio=0.5, rows: DataFrame = None): ...

@action
def join(orders): ...

@action
def everything(params): ...

@action
class Report:
    def __init__(self, day: date): ...
    @action
    def write(self): ...

SEEN = {}

def nightly(day: date, size: Size = Size.SMALL, *, limit: int | None = None, config: Config = Config()):
    SEEN.update(day=day, size=size, limit=limit)
    return DotFlow(workflow_id="nightly")

def unnamed(day: Annotated[date, "a day"], tags: list[str] = [], mode: Literal["fast", "slow"] = "fast"):
    return DotFlow(name=repr((day, tags, mode)))

def both(day: str):
    return DotFlow(workflow_id="both", params={"day": day, "limit": 100})

def exact(start: Sequence[str], other: Any = None, wrong: bytes = b""):
    return DotFlow(name=repr((start, other)))

workflow = DotFlow(workflow_id="ready", params={"day": ..., "limit": 100})

typed = DotFlow(workflow_id="typed", params={"day": ..., "other": ...})
typed.task.add(orders)
"""


class Size(enum.Enum):
    SMALL = "small"
    BIG = 2


@pytest.fixture(autouse=True)
def jobs(modules: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's module; the import path is restored, and the log writes no file."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(LogDefault, "note", lambda *_: None)
    modules["jobs"] = JOBS


def loaded(*param: str, step: tuple[str, ...] = (), workflow: str | None = None, **given: Any) -> Loaded:
    """Builds the workflow of a command with these options."""
    return build({**given, "step": step, "workflow": workflow, "param": param})


def run_id(found: Loaded) -> str:
    """The id by which the run's values, lock and log go."""
    return found.workflow.id_of_run(found.params)


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [
        (..., "5", "5"),
        (None, "5", "5"),
        ("x", "5", "5"),
        (1, "-5", -5),
        (0.5, "1e3", 1000.0),
        (False, "yes", True),
        (True, "FALSE", False),
        (date(2026, 1, 1), "2026-11-25", date(2026, 11, 25)),
        (datetime(2026, 1, 1), "2026-11-25T02:30", datetime(2026, 11, 25, 2, 30)),
        (Path("a"), "b/c", Path("b/c")),
        (Size.SMALL, "small", Size.SMALL),
        (Size.SMALL, "BIG", Size.BIG),
        (Size.SMALL, "2", Size.BIG),
        ([], "[1, null]", [1, None]),
        ({}, '{"a": [1]}', {"a": [1]}),
        ((), "[1, 2]", (1, 2)),
        (set(), "[1, 2]", {1, 2}),
    ],
)
def test_a_text_takes_the_type_of_the_default(default: object, text: str, value: object) -> None:
    """A container is JSON, and a text where the default is none."""
    found = convert("name", text, type_of_default(default))

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("default", "text", "accepted"),
    [
        (1, "1.5", "an int, such as 100"),
        (0.5, "half", "a float, such as 0.5"),
        (True, "2", "true or false"),
        (date(2026, 1, 1), "today", "a date, such as 2026-11-25"),
        (datetime(2026, 1, 1), "now", "a datetime, such as 2026-11-25T02:30"),
        (Size.SMALL, "Small", "one of small, 2"),
        ([], "1, 2", "a list as JSON, such as '[1, 2]'"),
        ([], '{"a": 1}', "a list as JSON, such as '[1, 2]'"),
        ({}, "[" * 100_000, """a dict as JSON, such as '{"a": 1}'"""),
    ],
)
def test_an_error_has_parameter_value_and_type(default: object, text: str, accepted: str) -> None:
    """So it can be corrected without the documentation."""
    with pytest.raises(click.UsageError) as caught:
        convert("name", text, type_of_default(default))

    assert caught.value.message == f"Can't use --param name={text}: 'name' is {accepted}."


@pytest.mark.parametrize("option", ["day", "=5", "a b=5", "5=5", ""])
def test_a_text_without_name_and_value_is_refused(option: str) -> None:
    """The error has an example."""
    with pytest.raises(click.UsageError, match="Write --param day=2026-11-25"):
        parse_params([option])


def test_a_value_may_be_empty_or_have_an_equals_sign() -> None:
    """The first one counts; the same parameter twice is refused."""
    assert parse_params(["a=", "b=c=d"]) == {"a": "", "b": "c=d"}
    with pytest.raises(click.UsageError, match="--param a is there twice"):
        parse_params(["a=1", "a=2"])


class TestWorkflows:
    def test_declared_parameters_are_passed_to_start(self) -> None:
        """Those that are not their default name the run."""
        found = loaded("day=2026-11-25", workflow="jobs:workflow")

        assert found.params == {"day": "2026-11-25"}
        assert run_id(found) == "ready@day=2026-11-25"

    def test_one_without_a_default_has_the_type_that_its_step_declares(self) -> None:
        """So a run from the command line and one from a program get the same value."""
        found = loaded("day=2026-11-25", "other=2026-11-25", workflow="jobs:typed")

        assert found.params == {"day": date(2026, 11, 25), "other": "2026-11-25"}

    @pytest.mark.parametrize(
        ("params", "kind", "line"),
        [
            (["dya=1", "day=1"], UnknownParam, "The workflow has no parameter 'dya'. Did you mean 'day'?"),
            (["x=1", "day=1"], UnknownParam, "The workflow has no parameter 'x'. Declare it: DotFlow(params={...})."),
            ([], MissingParam, "The run needs 'day'. Pass --param day=VALUE."),
        ],
    )
    def test_unknown_and_missing_ones_are_refused(self, params: list[str], kind: type, line: str) -> None:
        """The errors name the option to pass."""
        with pytest.raises(kind) as caught:
            loaded(*params, workflow="jobs:workflow")

        assert error_line(caught.value) == f"dotflow: {line}"

    def test_a_preview_needs_none(self) -> None:
        """It runs nothing."""
        assert load({"workflow": "jobs:workflow"}).params == {}


class TestFactories:
    def test_its_arguments_take_their_annotations_and_name_the_run(self) -> None:
        """Without a default or with None, too; its defaults name no run."""
        found = loaded("day=2026-11-25", "limit=5", workflow="jobs:nightly")

        seen = sys.modules["jobs"].SEEN
        assert (seen["day"], seen["size"].value, seen["limit"]) == (date(2026, 11, 25), "small", 5)
        assert found.params == {}
        assert run_id(found) == "nightly@day=2026-11-25,limit=5"

    def test_annotations_may_be_texts_and_generic(self) -> None:
        """A list is JSON, a Literal one of its values, and Any a text."""
        found = loaded("day=2026-11-25", 'tags=["a"]', "mode=slow", workflow="jobs:unnamed")
        assert found.workflow.name == repr((date(2026, 11, 25), ["a"], "slow"))

        assert loaded('start=["a"]', "other=[5]", workflow="jobs:exact").workflow.name == repr((["a"], "[5]"))

    def test_without_an_id_the_derived_one_is_named_so(self) -> None:
        """Each day has its own checkpoints."""
        found = loaded("day=2026-11-25", workflow="jobs:unnamed", storage="file")

        assert run_id(found) == "jobs:unnamed@day=2026-11-25"

    def test_a_parameter_of_both_goes_to_both(self) -> None:
        """And stands in the name once."""
        found = loaded("day=2026-11-25", workflow="jobs:both")

        assert found.params == {"day": "2026-11-25"}
        assert run_id(found) == "both@day=2026-11-25"
        assert run_id(loaded("day=x", "limit=5", workflow="jobs:both")) == "both@day=x,limit=5"

    @pytest.mark.parametrize(
        ("path", "params", "line"),
        [
            ("jobs:nightly", [], "The run needs 'day'. Pass --param day=VALUE."),
            ("jobs:nightly", ["dya=1"], "The workflow has no parameter 'dya'. Did you mean 'day'?"),
            ("jobs:nightly", ["day=2026-11-25", "sise=1"], "has no parameter 'sise'. Did you mean 'size'?"),
            ("jobs:both", ["day=x", "limits=5"], "has no parameter 'limits'. Did you mean 'limit'?"),
            ("jobs:nightly", ["day=2026-11-25", "size=x"], "Can't use --param size=x: 'size' is one of small, big."),
            ("jobs:nightly", ["day=25.11."], "Can't use --param day=25.11.: 'day' is a date"),
            ("jobs:exact", ["start=[]", "wrong=x"], "no text can become the type of 'wrong'"),
            ("jobs:unnamed", ["day=2026-11-25", "mode=x"], "'mode' is one of fast, slow."),
        ],
    )
    def test_wrong_ones_are_refused(self, path: str, params: list[str], line: str) -> None:
        """Before anything runs."""
        with pytest.raises((click.UsageError, DotflowError)) as caught:
            loaded(*params, workflow=path)

        assert line in error_line(caught.value)


class TestSteps:
    def test_they_need_no_declaration(self) -> None:
        """The type is that of the annotation, or of the default; those not passed keep their defaults."""
        found = loaded("day=2026-11-25", "ratio=1", step=("jobs.orders",), workflow_id="nightly")

        assert found.params == {"day": date(2026, 11, 25), "ratio": 1.0}
        assert run_id(found) == "nightly@day=2026-11-25,ratio=1.0"

    def test_a_class_and_a_step_of_all_parameters(self) -> None:
        """A class is given what its __init__ takes; `params` takes every name, as text."""
        assert loaded("day=2026-11-25", step=("jobs.Report",)).params == {"day": date(2026, 11, 25)}
        assert loaded("day=1", "x=2", step=("jobs.everything",)).params == {"day": "1", "x": "2"}

    def test_names_wire_by_themselves(self) -> None:
        """A step is given what the step of its parameter's name returned."""
        tasks = list(loaded("day=2026-11-25", step=("jobs.orders", "jobs.join")).workflow.task)

        assert tasks[1].links is not None
        assert [bind.source for bind in tasks[1].links.binds] == [0]

    @pytest.mark.parametrize(
        ("steps", "params", "line"),
        [
            (["orders"], [], "Step 'orders' needs 'day'. Pass --param day=VALUE."),
            (["join"], [], "Pass --param orders=VALUE. Or add the --step of this name before it."),
            (["join", "orders"], ["day=2026-11-25"], "Step 'join' needs 'orders'. Pass --param orders=VALUE."),
            (["orders", "orders", "join"], ["day=2026-11-25"], "Several steps are called 'orders', and one is needed."),
            (["orders"], ["dya=1"], "The workflow has no parameter 'dya'. Did you mean 'day'?"),
            (["orders"], ["x=1"], "The workflow has no parameter 'x'. No step has it."),
            (["orders", "join"], ["orders=1"], "Can't use --param orders: the step 'orders' fills this parameter."),
            (["orders"], ["limit=x"], "Can't use --param limit=x: 'limit' is an int, such as 100."),
        ],
    )
    def test_wrong_ones_are_refused(self, steps: list[str], params: list[str], line: str) -> None:
        """The errors name the options that are missing."""
        with pytest.raises((click.UsageError, DotflowError)) as caught:
            loaded(*params, step=tuple(f"jobs.{step}" for step in steps))

        assert line in error_line(caught.value)
