"""Enums, dataclasses and models at the edges of what Python and Pydantic allow."""

import enum
import functools
import itertools
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field
from enum import Enum, Flag
from http import HTTPStatus
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import pytest
from pydantic import BaseModel, Field, computed_field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from dotflow.codec import decode, encode
from dotflow.errors import CheckpointUnreadable, ValueNotStorable
from tests.unit import codec_samples as samples

T = TypeVar("T")


class Mixed(samples.Point, Enum):
    A = (1, 2)
    B = (3, 4)


Functional = Enum("Functional", {"a b": 1, "$x": 2, "\ud800": 3}, module=__name__)


class Pair(tuple[int, int], Enum):
    X = (1, 2)


class Conforming(Flag, boundary=enum.CONFORM):
    A = 1
    B = 2


class Ejecting(Flag, boundary=enum.EJECT):
    A = 1
    B = 2


class Keeping(Flag, boundary=enum.KEEP):
    A = 1
    B = 8


class IntMixed(int, Flag):
    A = 1
    B = 2


class Composite(Flag):
    A = 1
    BOTH = A | 2
    SAME = BOTH


class Fresh(Flag):
    A = 1
    B = 2
    C = 4


@pytest.mark.parametrize(
    "member",
    [
        *Mixed,
        *Functional,
        Pair.X,
        Conforming(7),
        Ejecting.A | Ejecting.B,
        Ejecting(0),
        Keeping(0xFF),
        ~Keeping.A,
        Keeping(-1),
        IntMixed.A | IntMixed.B,
        Composite.BOTH,
        Composite(2),
        Composite(0),
        re.IGNORECASE | re.MULTILINE,
        HTTPStatus.OK,
        signal.SIGTERM,
    ],
    ids=ascii,
)
def test_every_kind_of_member_is_itself(member: Enum) -> None:
    """Members by name and alias, combinations of flags, and members of the standard library's enums."""
    assert decode(encode(member)) is member


def test_a_combination_that_does_not_exist_yet() -> None:
    """Python makes combinations on demand, and so does the reader."""
    text = encode(Fresh.A).replace('"A"', '["A", "C"]')

    found = decode(text)

    assert found is Fresh.A | Fresh.C
    assert found.name == "A|C"


def test_a_flag_that_was_removed() -> None:
    """A combination with a removed bit is unreadable, in a strict enum and in one that ejects bits."""
    for cls in (Conforming, Ejecting, samples.Right):
        text = encode(cls(3)).replace('["A", "B"]', '["A", 64]').replace('"BOTH"', '["READ", 64]')
        with pytest.raises(CheckpointUnreadable, match=r"\(any more\)"):
            decode(text)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Weak:
    a: int
    b: int = field(default=3, compare=False, repr=False)


@dataclass
class WithInit:
    a: int
    seed: InitVar[int] = 3
    c: ClassVar[int] = 5

    def __post_init__(self, seed: int) -> None:
        self.b = seed


@dataclass
class WithCache:
    a: int

    @functools.cached_property
    def b(self) -> list[int]:
        return [self.a]


@dataclass(slots=True)
class GenericSlots(Generic[T]):
    a: T


@dataclass
class Described(Protocol):
    a: int


@dataclass
class Implemented(Described):
    b: int = 1


class Hidden:
    __slots__ = ("__private", "plain")

    def hide(self, value: Any) -> None:
        self.__private = value

    def show(self) -> Any:
        return self.__private


@dataclass(slots=True)
class WithHidden(Hidden):
    a: int


@dataclass(eq=False)
class ById:
    a: int


def test_dataclasses_of_every_kind() -> None:
    """With slots, weak references, generics, protocols, and attributes beside the fields."""
    for value in (Weak(1, 2), GenericSlots([1]), GenericSlots[int](1), Implemented(1, 2)):
        assert decode(encode(value)) == value
    assert vars(decode(encode(WithInit(1, 9)))) == {"a": 1, "b": 9}
    cached = WithCache(1)
    cached.b.append(2)
    assert vars(decode(encode(cached))) == {"a": 1, "b": [1, 2]}
    hidden = WithHidden(1)
    hidden.hide((2,))
    assert decode(encode(hidden)).show() == (2,)
    assert not hasattr(decode(encode(hidden)), "plain")


def test_keys_that_are_themselves_only() -> None:
    """A dataclass without equality comes back as another object, and is still a key."""
    (found,) = decode(encode({ById(1): 2}))

    assert vars(found) == {"a": 1}


@pydantic_dataclass
class Validated:
    a: int
    b: list[int] = Field(default_factory=list)


class Rich(BaseModel):
    a: int = Field(alias="A")
    k: ClassVar[int] = 3

    @computed_field  # type: ignore[prop-decorator]
    @property
    def c(self) -> int:
        return self.a + 1

    @functools.cached_property
    def d(self) -> list[int]:
        return [5]


class WithSlot(BaseModel):
    __slots__ = ("slot",)
    a: int


class Stubborn(BaseModel):
    a: int = 1

    def __getstate__(self) -> Any:
        raise AssertionError

    def __hash__(self) -> int:
        return 1


def test_models_of_every_kind() -> None:
    """Pydantic's dataclasses; aliases, cached properties and slots; a __getstate__ of their own."""
    assert decode(encode(Validated(a=1, b=[2]))) == Validated(a=1, b=[2])
    rich = Rich(A=1)
    rich.d.append(6)
    assert decode(encode(rich)) == rich
    assert decode(encode(rich)).d == [5, 6]
    slotted = WithSlot(a=1)
    assert not hasattr(decode(encode(slotted)), "slot")
    object.__setattr__(slotted, "slot", (5,))
    assert decode(encode(slotted)).slot == (5,)
    assert decode(encode({Stubborn(): 1})) == {Stubborn(): 1}


class Strange(type):
    def __eq__(cls, other: object) -> bool:
        return True


class OfStrange(metaclass=Strange):
    pass


def test_a_class_without_a_hash_is_refused() -> None:
    """A metaclass can make its classes unhashable."""
    with pytest.raises(ValueNotStorable, match="unhashable"):
        encode(OfStrange())
    with pytest.raises(ValueNotStorable, match="unhashable"):
        encode([1, OfStrange()])


@pytest.fixture
def small_stack() -> Iterator[None]:
    """Limits recursion so much that a thread of its own doesn't help."""
    before = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(before)


def test_too_small_a_recursion_limit_is_refused(small_stack: None) -> None:
    """The error names the limit, where a program has set it too low."""
    value: Any = samples.Point(1)
    for _ in range(99):
        value = {1: samples.Point(value)}
    text = encode(value)

    with pytest.raises(ValueNotStorable, match="recursion limit"):
        deepest(lambda: encode(value))
    with pytest.raises((CheckpointUnreadable, ValueNotStorable)):
        deepest(lambda: encode(decode(text)))


def deepest(function: Any) -> Any:
    """Calls a function with a recursion limit that is too low for its value."""
    frame: Any = sys._getframe()
    frames = 0
    while frame is not None:
        frame, frames = frame.f_back, frames + 1
    sys.setrecursionlimit(frames + 90)
    return function()


def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without threads, a value that needs more stack than there is left is refused."""
    value: Any = 1
    for _ in range(190):
        value = {1: value}
    text = encode(value)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    def down(frames: int, function: Any) -> Any:
        return function() if frames == 0 else down(frames - 1, function)

    with pytest.raises(ValueNotStorable, match="too deep"):
        down(850, lambda: encode(value))
    assert decode(text) == value


def test_a_set_or_deque_may_change_meanwhile() -> None:
    """Another thread may still fill it. What it holds at one moment is kept."""
    members, queue = {(0, n) for n in range(2_000)}, deque((0, n) for n in range(2_000))
    is_over = threading.Event()

    def change() -> None:
        for n in itertools.takewhile(lambda _: not is_over.is_set(), itertools.count(2_000)):
            members.add((0, n))
            queue.append((0, n))
            members.discard((0, n - 1))
            queue.popleft()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(change)
        try:
            texts = [encode(value) for _ in range(20) for value in (members, queue)]
        finally:
            is_over.set()
            sys.setswitchinterval(before)

    assert all(len(decode(text)) >= 1_999 for text in texts)


def test_threads_do_not_disturb_each_other() -> None:
    """Many threads read and write at once."""
    values = [[samples.Point(n, {"$a": (n, float("nan"))}), samples.Model(name=str(n))] for n in range(50)]

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(encode, values))
        found = list(pool.map(decode, texts))

    assert all(map(samples.same, found, values))
