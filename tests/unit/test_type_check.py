"""Types at `add`: what can't fit is refused, and what may fit is not."""

import dataclasses
import functools
import typing
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from io import BytesIO, StringIO
from ipaddress import IPv4Address
from numbers import Number
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar

import numpy as np
import pydantic
import pytest

from dotflow import Context, DotFlow, action
from dotflow.errors import InvalidLink
from dotflow.graph.type_check import check_argument, check_outputs, hints_of, may_fit, value_type

if TYPE_CHECKING:
    from somewhere import Unknown

T = TypeVar("T")
Ts = typing.TypeVarTuple("Ts")
Id = NewType("Id", int)


class Money(float):
    """A base or a derived class of others."""


class Color(Enum):
    RED = "red"


class Route(StrEnum):
    FAST = "fast"


class Movie(TypedDict):
    name: str
    year: int


class Point(NamedTuple):
    x: int
    y: str


@dataclasses.dataclass
class Order:
    number: int
    price: float


class Named(Protocol):
    name: str


class Box(Generic[T]):
    """A generic class of the user's."""


class NoHash(type):
    """Makes classes without a hash, which refuse to be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        return cls is other

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise ValueError


class Odd(metaclass=NoHash):
    """A class that can't be judged."""


def step_of(returned: Any = None, **taken: Any) -> Any:
    """Returns a step with these annotations, whose parameters are required."""
    parameters = ", ".join(taken)
    namespace: dict[str, Any] = {}
    exec(f"def step({parameters}): ...", namespace)
    step = namespace["step"]
    step.__annotations__ = {"return": returned, **taken}
    return action(step)


def wire(returned: Any, taken: Any) -> None:
    DotFlow().task.add(step_of(returned), name="source").add(step_of(source=taken), name="taker")


EVERY_TYPE = [
    None, int, bool, str, float, complex, bytes, object, Any, T, Id, Odd, Money, Color, Route, Movie, Point, Order,
    Named, Box, Box[int], list, list[int], list[T], list[int | None], list[list[str]], tuple, tuple[int, ...],
    tuple[int, str], tuple[()], dict, dict[str, int], dict[str, list[Any]], set[int], frozenset[str], Sequence[int],
    Iterable[str], Collection[int], Mapping[str, Any], Iterator[int], Counter[str], defaultdict[str, int], deque[int],
    int | None, int | str, str | None, Literal["a", "b"], Literal[1, None], Annotated[int, "positive"],
    Callable[[int], str], Hashable, type[Money], PathLike[str], Path, date, datetime, Decimal, Number, typing.TextIO,
    "Unknown", "list[Unknown]", "int",
]  # fmt: skip


@pytest.mark.parametrize("annotation", EVERY_TYPE, ids=str)
def test_each_type_fits_itself_and_what_has_it(annotation: Any) -> None:
    """No step is refused that returns what the next one takes, takes anything, or takes it or None."""
    for taken in (annotation, Any, object, T, Annotated[Any, 1], "Unknown"):
        wire(annotation, taken)
    wire("Unknown", annotation)
    wire(Any, annotation)
    if annotation not in (None, Odd) and not isinstance(annotation, str):  # of which typing makes no union
        optional = typing.Union[annotation, None]  # noqa: UP007 (of any type)
        wire(annotation, optional)
        wire(optional, annotation)
        wire(list[annotation], Sequence[annotation])
        wire(dict[str, annotation], Mapping[str, annotation])


@pytest.mark.parametrize(
    ("returned", "taken"),
    [
        (int, float),  # as for type checkers
        (int, complex),
        (bool, int),
        (bytearray, bytes),
        (Money, float),  # a derived class
        (float, Money),  # a base class: it may be one
        (Money, Any),
        (Id, int),
        (int, Id),
        (Route, str),
        (str, Route),
        (list[int], list[float]),
        (list[float], list[Money]),
        (list[int], list[str | int]),
        (list[int | str], list[str]),
        (list[int], Iterable[int]),
        (list[int], Sequence[Any]),
        (list, list[int]),
        (list[int], list),
        (dict[str, int], Iterable[str]),  # its keys
        (dict[str, int], Mapping[str, float]),
        (Counter[str], dict[str, int]),
        (tuple[int, str], tuple[int | None, str]),
        (tuple[int, int], Sequence[int]),
        (tuple[int, str], tuple[Any, ...]),
        (Point, tuple[int, str]),
        (str, Sequence[str]),
        (Sequence[int], list[int]),
        (Iterable[int], list[int]),
        (Order, Mapping[str, int]),  # a derived class may be one
        (Order, Named),
        (int, Named),  # a Protocol is not judged
        (Movie, dict[str, Any]),
        (dict[str, Any], Movie),
        (int | None, int),
        (int | str, str | bytes),
        (Literal["a"], str),
        (str, Literal["a"]),
        (Literal["a", "b"], Literal["b", "c"]),
        (Box[int], Box[str]),
        (Callable[[int], str], Callable[..., Any]),
        (datetime, date),
        (Path, PathLike[str]),
        ("int", "float"),
    ],
)
def test_what_may_fit_is_accepted(returned: Any, taken: Any) -> None:
    """Annotations are promises to people: only a contradiction is refused."""
    wire(returned, taken)


@pytest.mark.parametrize(
    ("returned", "taken", "message"),
    [
        (int, str, "it returns int, and the parameter is annotated as str"),
        (float, int, "it returns float, and"),
        ("int", "str", "it returns int, and"),
        (None, int, "it returns None, and the parameter is annotated as int"),
        (Money, str, "it returns Money, and"),
        (dict, list, "it returns dict, and"),
        (list[int], list[str], "it returns list[int], and the parameter is annotated as list[str]"),
        (list[int], str, "it returns list[int], and"),
        (list[list[int]], Iterable[Sequence[str]], "annotated as Iterable[Sequence[str]]."),
        (dict[str, int], dict[str, str], "it returns dict[str, int]"),
        (dict[int, str], Mapping[str, str], "it returns dict[int, str]"),
        (dict[str, int], Sequence[int], "it returns dict[str, int]"),
        (dict[int, str], Iterable[str], "it returns dict[int, str]"),
        (tuple[int, str, int], tuple[int, str], "it returns tuple[int, str, int]"),
        (tuple[int, str], tuple[str, int], "it returns tuple[int, str]"),
        (tuple[int, ...], Sequence[str], "it returns tuple[int, ...]"),
        (set[int], list[int], "it returns set[int]"),
        (int | None, str, "it returns int | None"),
        (int | None, str | None, "it returns int | None"),
        (int | str, list[int], "it returns int | str"),
        (Annotated[int, 1], str, "it returns int"),
        (Id, str, "it returns Id"),
        (Literal["a"], int, "it returns Literal['a']"),
        (Literal["a"], Literal["b"], "annotated as Literal['b']"),
        (dict[str, Any], Order, "it returns dict[str, Any], and the parameter is annotated as Order"),
        (Movie, list[Any], "it returns Movie"),
        (int, Sequence[int], "it returns int"),
        (Color, str, "it returns Color"),
    ],
)
def test_what_can_not_fit_is_refused(returned: Any, taken: Any, message: str) -> None:
    """Both types are in the message, and nothing is added."""
    tasks = DotFlow().task.add(step_of(returned), name="source")

    with pytest.raises(InvalidLink) as caught:
        tasks.add(step_of(source=taken))

    assert message in str(caught.value)
    assert tasks.count() == 1


# Twelve mistakes


@action
def urls() -> list[str]:
    return ["a"]


@action
def count() -> int:
    return 1


@action
def log_in() -> None: ...


@action
def fetch(url: str) -> bytes:
    return b""


@action
def prices() -> dict[str, float]:
    return {}


@action
def route(prices: dict[str, float]) -> Literal["fast", "slow"]:
    return "fast"


@action
def load(day: date) -> list[tuple[str, int]]:
    return []


@action
def split() -> tuple[list[int], list[int], list[int]]:
    return [], [], []


@action
def find() -> Movie | None:
    return None


@action
def train(left: list[int], right: list[int]) -> float:
    return 1.0


def the_session_of_a_step_that_returns_none(add: Any) -> None:
    add(log_in).add(step_of(log_in=str))


def the_values_of_a_dict_instead_of_the_dict(add: Any) -> None:
    add(prices).add(step_of(prices=list[float]))


def one_page_instead_of_the_pages(add: Any) -> None:
    add(urls).add(fetch, each=urls).add(step_of(fetch=bytes))


def a_list_of_texts_instead_of_bytes(add: Any) -> None:
    add(urls).add(fetch, each=urls).add(step_of(fetch=list[str]))


def a_number_instead_of_a_list(add: Any) -> None:
    add(count).add(step_of(number=int), each=count)


def items_of_another_type(add: Any) -> None:
    add(urls).add(step_of(number=int), each=urls)


def a_misspelled_branch(add: Any) -> None:
    add(prices).add(route).add(log_in, when={"route": "fats"})


def days_written_as_texts(add: Any) -> None:
    add(load, each=["2026-11-25", "2026-11-26"])


def three_parts_for_two(add: Any) -> None:
    add(split).add(step_of(split=tuple[list[int], list[int]]))


def the_context_instead_of_the_value(add: Any) -> None:
    add(urls).add(step_of(urls_context=list[str]))


def two_equal_lists_swapped(add: Any) -> None:
    add(step_of(list[int]), name="train_rows").add(step_of(list[int]), name="test_rows")
    add(train, needs={"left": "test_rows", "right": "train_rows"})


def a_value_that_is_sometimes_none(add: Any) -> None:
    add(find).add(step_of(find=Movie))


FOUND = {
    the_session_of_a_step_that_returns_none: "it returns None, and the parameter is annotated as str",
    the_values_of_a_dict_instead_of_the_dict: "it returns dict[str, float], and",
    one_page_instead_of_the_pages: "it is mapped, and gives list[bytes], and the parameter is annotated as bytes",
    a_list_of_texts_instead_of_bytes: "gives list[bytes], and the parameter is annotated as list[str]",
    a_number_instead_of_a_list: "each: task 'count' returns int, which is no list",
    items_of_another_type: "it lists str, and the parameter is annotated as int",
    a_misspelled_branch: "when: 'route' returns Literal['fast', 'slow'], which never equals 'fats'",
    days_written_as_texts: "each: item 0: step 'load' takes 'day' as date, and '2026-11-25' is none",
    three_parts_for_two: "it returns tuple[list[int], list[int], list[int]], and",
    the_context_instead_of_the_value: "it has a Context, and the parameter is annotated as list[str]",
}
#: What types can't show, and what a condition may settle.
NOT_FOUND = (two_equal_lists_swapped, a_value_that_is_sometimes_none)


@pytest.mark.parametrize("mistake", [*FOUND, *NOT_FOUND], ids=lambda mistake: mistake.__name__)
def test_ten_of_twelve_wiring_mistakes_are_found(mistake: Callable[[Any], None]) -> None:
    """Each when its task is added, with what does not fit what."""
    add = DotFlow().task.add
    if mistake in NOT_FOUND:
        mistake(add)
        return

    with pytest.raises(InvalidLink) as caught:
        mistake(add)

    assert FOUND[mistake] in str(caught.value)


# Lists


@pytest.mark.parametrize("returned", [int, str, dict[str, int], set[int], Iterator[int], None, Order, range])
def test_a_source_of_items_returns_a_list(returned: Any) -> None:
    """What a run takes for a list is a list or a tuple."""
    with pytest.raises(InvalidLink, match=r"which is no list\. Return a list from it"):
        DotFlow().task.add(step_of(returned), name="source").add(step_of(item=Any), each="source")


@pytest.mark.parametrize(
    ("returned", "taken"),
    [
        (list[int], int),
        (list[Odd], int),
        (tuple[Odd, int], Odd),
        (tuple[int, ...], float),
        (tuple[int, str], int | str),
        (Point, Any),
        (list, int),
        (Sequence[int], int),
        (Iterable[Any], int),
        (list[int] | None, int),
        (list[str] | dict[str, int], str),
        (list[dict[str, Any]], dict[str, str]),
        (list[int | None], int),
        (Any, int),
        (object, int),
        (T, int),
    ],
)
def test_items_that_may_fit(returned: Any, taken: Any) -> None:
    """In doubt they do."""
    DotFlow().task.add(step_of(returned), name="source").add(step_of(item=taken), each="source")


def test_a_map_over_a_map_takes_what_its_step_returns() -> None:
    """Not the list of it."""
    tasks = DotFlow().task.add(urls).add(fetch, each=urls)

    with pytest.raises(InvalidLink, match="it returns bytes, and the parameter is annotated as str"):
        tasks.add(step_of(page=str), each=fetch)
    tasks.add(step_of(page=bytes), each=fetch)


@pytest.mark.parametrize(("source", "message"), [(count, "returns int, which is no list"), (["a"], "as int")])
def test_the_lists_of_cross_are_named_so(source: Any, message: str) -> None:
    """The error begins with the option."""
    with pytest.raises(InvalidLink, match=rf"^cross: .*{message}"):
        DotFlow().task.add(count).add(step_of(number=int), cross={"number": source})


@pytest.mark.parametrize(
    "options",
    [{"needs": {"numbers": urls}}, {"needs": {"numbers": "texts"}}, {"params": {"numbers": ["a"]}}],
    ids=["task", "run parameter", "params"],
)
def test_a_list_that_fills_an_added_workflow_fits_its_map(options: dict[str, Any]) -> None:
    """What its run parameter is filled with is judged where the workflow is added."""
    inner = DotFlow(params={"numbers": [1]})
    inner.task.add(step_of(number=int), name="double", each="numbers")
    workflow = DotFlow(params={"texts": ["a"]})

    with pytest.raises(InvalidLink, match=r"annotated as int|takes 'number' as int"):
        workflow.task.add(urls).add(inner, name="inner", **options)


@pytest.mark.parametrize("items", [[], [1, 2.5], [True], (1,), range(3)])
def test_written_down_items_that_fit(items: Any) -> None:
    """An int is a float, as elsewhere."""
    DotFlow().task.add(step_of(item=float), each=items)


def test_one_item_of_a_class_stands_for_all_of_it() -> None:
    """So a long list costs no time; each class is judged."""
    with pytest.raises(InvalidLink, match="takes 'item' as int, and 'x' is none"):
        DotFlow().task.add(step_of(item=int), each=[*range(1000), "x"])


# Conditions


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (bool, 1),
        (int, 1.0),
        (float, 1),
        (Literal["fast"], "fast"),
        (Route, "fast"),
        (Color, Color.RED),
        (str, Route.FAST),
        (set[int], frozenset()),
        (Order, 3),  # its class may say that it equals a number
        (int, Decimal(1)),
        (str | None, None),
        (list[int], [1]),
        (Any, "x"),
        (object, "x"),
        (T, "x"),
        (Movie, {}),
        (Named, "x"),
        (Odd, "x"),
    ],
)
def test_a_condition_may_hold(returned: Any, expected: Any) -> None:
    """Values of other types may be equal."""
    tasks = DotFlow().task.add(step_of(returned), name="source")
    tasks.add(step_of(), name="one", when={"source": expected}).add(step_of(), name="two", unless={"source": expected})


@pytest.mark.parametrize(
    ("returned", "expected"),
    [(bool, "yes"), (Literal[1, 2], 3), (Route, "fats"), (Color, "red"), (str, None), (list[str], "a"), (None, True)],
)
@pytest.mark.parametrize("word", ["when", "unless"])
def test_a_condition_that_never_holds(returned: Any, expected: Any, word: str) -> None:
    """A misspelled value skips its branch in every run."""
    tasks = DotFlow().task.add(step_of(returned), name="source")

    with pytest.raises(InvalidLink, match=f"{word}: 'source' returns .*, which never equals"):
        tasks.add(step_of(), name="taker", **{word: {"source": expected}})


# Written-down values and outputs


CHECKED = [
    (pydantic.EmailStr, str, "a@b.de"),
    (pydantic.AwareDatetime, datetime, datetime(2026, 1, 1, tzinfo=UTC)),
    (pydantic.PastDate, date, date(2026, 1, 1)),
    (pydantic.IPvAnyAddress, IPv4Address, IPv4Address(1)),
    (pydantic.Json, list[int], [1]),
    (pydantic.SkipValidation, int, 1),
    (np.number, float, 0.5),
    (np.generic, float, 0.5),
    (np.floating, float, 0.5),
    (np.bool_, bool, True),
    (np.float32, float, 0.5),
    (bool, np.bool_, np.True_),
    (float, np.float64, np.float32(0.5)),
    (np.int32, np.int64, np.int64(1)),
    (typing.TextIO, StringIO, StringIO()),
    (typing.BinaryIO, BytesIO, BytesIO()),
]


@pytest.mark.parametrize(("annotation", "plain", "value"), CHECKED, ids=range(len(CHECKED)))
def test_a_type_that_no_instance_shows_is_not_judged(annotation: Any, plain: Any, value: object) -> None:
    """A class that stands for a check of Pydantic, a scalar of NumPy, a file of `typing`."""
    wire(annotation, plain)
    wire(plain, annotation)
    wire(list[annotation], list[plain])
    check_argument(step_of(x=annotation), "x", value, "params")
    check_argument(step_of(x=annotation | None), "x", value, "each")


class Model(pydantic.BaseModel):
    """A class whose instances are of it."""


@pytest.mark.parametrize(("returned", "taken"), [(Model, str), (int, Model), (np.float64, str), (str, np.float64)])
def test_a_model_and_a_scalar_are_judged_beside_others(returned: Any, taken: Any) -> None:
    """Their classes show what they are."""
    with pytest.raises(InvalidLink, match="Correct the annotation"):
        wire(returned, taken)


@pytest.mark.parametrize(
    "returned",
    [
        typing.Awaitable[int],
        typing.Coroutine[Any, Any, int],
        typing.Coroutine[Any, Any, list[int]],
        typing.Awaitable[int] | int,
    ],
)
def test_what_a_function_returns_to_be_awaited_is_not_judged(returned: Any) -> None:
    """A coroutine is awaited, so the value is another one."""
    for taken in (int, list[int]):
        wire(returned, taken)
    DotFlow().task.add(step_of(returned), name="source").add(step_of(item=int), each={"item": "source"})
    DotFlow().task.add(step_of(returned), name="source", outputs=["one", "other"])


def test_a_default_of_none_may_be_passed() -> None:
    """As type checkers once read it; another value is judged as before."""

    @action
    def step(n: int = None) -> int:  # type: ignore[assignment] # noqa: RUF013
        return n

    DotFlow().task.add(step, params={"n": None})
    DotFlow().task.add(step, each={"n": [None, 1]})
    DotFlow().task.add(step_of(None), name="n").add(step)
    with pytest.raises(InvalidLink, match=r"takes 'n' as int \| None"):
        DotFlow().task.add(step, params={"n": "1"})


def test_a_tuple_that_unpacks_another_one_is_open() -> None:
    """Its length is not known, and neither are its parts."""
    returned = tuple[int, *tuple[str, ...]]
    for taken in (tuple[int, str, str], tuple[int], Sequence[str], returned, tuple[int, *Ts]):  # type: ignore[misc]
        wire(returned, taken)
    DotFlow().task.add(step_of(returned), name="s", outputs=["a", "b", "c"]).add(step_of(x=str), needs={"x": "b"})
    with pytest.raises(InvalidLink, match="annotated as int"):
        wire(returned, int)


def test_a_written_down_value_of_another_type() -> None:
    """The option is in the message, and a long value is shortened."""
    with pytest.raises(InvalidLink, match=r"params: step 'step' takes 'depth' as int, and '3+\.\.\. is none"):
        check_argument(step_of(depth=int), "depth", "3" * 500, "params")
    check_argument(step_of(depth=int | None), "depth", None, "params")
    check_argument(step_of(depth=float), "depth", 3, "params")


@pytest.mark.parametrize(
    ("returned", "outputs"),
    [
        (dict, "ab"),
        (Movie, ["name"]),
        (Movie | None, ["name", "year"]),
        (Point, "xy"),
        (Order, ["price"]),
        (tuple[int, str], "ab"),
        (tuple[int, ...], "abc"),
        (list[int], "ab"),
        (object, "ab"),
        (Box[int], "ab"),
        (Mapping[str, int], "ab"),
        (Any, "ab"),
        (T, "ab"),
    ],
)
def test_outputs_that_a_value_may_have(returned: Any, outputs: Sequence[str]) -> None:
    """Keys, fields or positions."""
    check_outputs(step_of(returned), list(outputs))


@pytest.mark.parametrize(
    ("returned", "outputs"),
    [
        (int, "ab"),
        (None, "ab"),
        (set[int], "ab"),
        (Movie, ["title"]),
        (Point, "xyz"),
        (Order, ["number", "prize"]),
        (tuple[int, str, int], "ab"),
        (int | None, "a"),
    ],
)
def test_outputs_that_a_value_can_not_have(returned: Any, outputs: Sequence[str]) -> None:
    """They are refused before a run fails on them."""
    with pytest.raises(InvalidLink, match=r"which has other parts\. Name these"):
        check_outputs(step_of(returned), list(outputs))


@pytest.mark.parametrize(
    ("returned", "part"),
    [
        (Movie, int),
        (Point, str),
        (Order, float),
        (tuple[int, str], str),
        (list[str], str),
        (dict[str, bytes], bytes),
        (tuple[int, ...], int),
        (dict, Any),
        (Any, Any),
        (Order | Movie, Any),
    ],
)
def test_the_type_of_a_part(returned: Any, part: Any) -> None:
    """By its key or field, or else by its position."""
    name = {Movie: "year", Order: "price"}.get(returned, "y")
    [task] = DotFlow().task.add(step_of(returned))

    assert value_type(task, (name, 1)) == part


# Functions of all kinds


class Steps:
    """Steps of all kinds."""

    @action
    def method(self) -> int:
        return 1

    @staticmethod
    @action
    def static() -> int:
        return 1

    def __call__(self) -> int:
        return 1


def base(size: int, of: str = "") -> int:
    return 1


@pytest.mark.parametrize(
    "step", [Steps().method, Steps.static, action(Steps()), action(functools.partial(base, 1))], ids=str
)
def test_steps_of_all_kinds_have_types(step: Any) -> None:
    """Methods, instances and partials."""
    tasks = DotFlow().task.add(step, name="source")

    with pytest.raises(InvalidLink, match="it returns int"):
        tasks.add(step_of(source=str))


def test_a_class_takes_values_in_its_init_and_returns_anything() -> None:
    """The value of a class is a list of contexts."""

    @action
    class Report:
        def __init__(self, count: str) -> None: ...

        @action
        def text(self) -> str:
            return ""

    tasks = DotFlow().task.add(count)

    with pytest.raises(InvalidLink, match="annotated as str"):
        tasks.add(Report)
    DotFlow().task.add(step_of(str), name="count").add(Report).add(step_of(Report=int))


def test_a_decorator_may_convert() -> None:
    """As `pydantic.validate_call` does; so its function is not judged."""

    def as_text(function: Any) -> Any:
        @functools.wraps(function)
        def convert(number: Any) -> Any:
            return str(function(int(number)))

        return convert

    @action
    @as_text
    def double(number: int) -> int:
        return 2 * number

    DotFlow().task.add(step_of(str), name="number").add(double).add(step_of(double=str))


def test_a_context_may_be_named() -> None:
    """As what it is, or as anything."""
    for annotation in (Context, Context | None, object, Any):
        DotFlow().task.add(urls).add(step_of(urls_context=annotation))


def test_a_task_that_fills_the_parameter_of_an_added_workflow_is_judged() -> None:
    """Its step takes the value, whatever stands between."""
    other = DotFlow(params={"day": ...})
    other.task.add(load)
    tasks = DotFlow().task.add(count)

    with pytest.raises(InvalidLink, match="Step 'load' takes 'day' from task 'count': it returns int"):
        tasks.add(other, name="prepare", needs={"day": count})
    assert tasks.count() == 1


def test_a_fallback_is_judged_too() -> None:
    """It takes the same values."""
    with pytest.raises(InvalidLink, match="annotated as list"):
        DotFlow().task.add(count).add(step_of(count=int), fallback=step_of(count=list))


@pytest.mark.parametrize("default", ["100", 2.5, [1]])
@pytest.mark.parametrize("needs", [None, {"number": "limit"}], ids=["by name", "needs"])
def test_the_default_of_a_run_parameter_fits_its_step(default: Any, needs: Any) -> None:
    """It is judged where the step is added, not first where a run fails."""
    workflow = DotFlow(params={"limit": default})

    with pytest.raises(InvalidLink, match=r"the default of 'limit': step '.*' takes '.*' as int, and .* is none"):
        workflow.task.add(step_of(number=int) if needs else step_of(limit=int), needs=needs)


@pytest.mark.parametrize("default", [..., None, 100, True])
def test_a_default_that_may_fit_is_accepted(default: Any) -> None:
    """A parameter without a default, or with None, gets its value from the run."""
    DotFlow(params={"limit": default}).task.add(step_of(limit=int))


def test_a_default_is_no_text_that_becomes_a_date() -> None:
    """Texts are converted where a run is given them; a default is passed as it is."""
    with pytest.raises(InvalidLink, match=r"the default of 'day': step '.*' takes 'day' as date"):
        DotFlow(params={"day": "2026-01-01"}).task.add(step_of(day=date))
    DotFlow(params={"day": date(2026, 1, 1)}).task.add(step_of(day=date))


def test_a_written_down_list_names_its_wrong_item() -> None:
    """By its index, from 0."""
    with pytest.raises(InvalidLink, match=r"each: item 2: step '.*' takes 'number' as int, and 'x' is none"):
        DotFlow().task.add(step_of(number=int), each=[1, 2, "x"])


def test_hints_are_read_once() -> None:
    """A step may be added a hundred thousand times."""
    assert hints_of(fetch.function) is hints_of(fetch.function)
    assert dict(hints_of(fetch.function)) == {"url": str, "return": bytes}


def test_no_step_is_kept_alive_by_its_types() -> None:
    """A function that is gone leaves nothing behind."""
    import gc
    import weakref

    step = step_of(int)
    hints_of(step.function)
    gone = weakref.ref(step.function)
    del step
    gc.collect()

    assert gone() is None


def test_an_annotation_that_can_not_be_resolved_leaves_the_others() -> None:
    """A name that only type checkers import."""

    @action
    def taker(count: "list[Unknown]", day: "str") -> "Unknown":
        raise NotImplementedError

    assert dict(hints_of(taker.function)) == {"day": str}
    assert may_fit(Any, list[T])  # type: ignore[valid-type]
