"""Actions for type checkers: @action keeps the signature of a callable. mypy and Pyright read this file."""

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from dotflow import Context, NotYet, action
from dotflow.core.action import Action


@action
def plain(source: str, limit: int = 3) -> list[str]:
    return [source] * limit


@action()
def bare(source: str) -> int:
    return len(source)


@action(retry=3, timeout=1.5, retry_delay=0.5, backoff=True, isolate=True)
def with_options(previous_context: Context) -> float:
    return float(previous_context.storage)


@action
async def coroutine(number: int) -> str:
    return str(number)


@action(timeout=2)
async def coroutine_with_options(*, number: int) -> bytes:
    return bytes(number)


class Report:
    @action
    def load(self, name: str) -> dict[str, int]:
        return {name: 1}

    @action(retry=2)
    def send(self, to: str, *, urgent: bool = False) -> bool:
        return urgent

    @action
    async def fetch(self, number: int) -> str:
        return str(number)


@action
class Pipeline:
    def __init__(self, initial_context: Context | None = None) -> None:
        self.start = initial_context

    @action
    def first(self) -> int:
        return 1


@action(retry=2)
class Other:
    pass


@action(retry=5, retry_delay="500ms", max_delay="1.5h", jitter=0.5, retry_on=(OSError, TimeoutError))
def patient() -> int:
    return 1


@action(retry=2, timeout="90s", retry_on=lambda error: 30 if isinstance(error, OSError) else False)
def asking() -> int:
    return 1


@action(poll="30s", poll_timeout="2h", jitter=0.5)
def waiting() -> int | None:
    raise NotYet("3 of 5 files")


@action(retry=2, retry_on=OSError)
async def choosy() -> int:
    return 1


# A function

assert_type(patient(), int)
assert_type(asking(), int)
assert_type(plain("a"), list[str])
assert_type(plain("a", limit=2), list[str])
assert_type(bare("a"), int)
assert_type(with_options(Context(1)), float)
assert_type(with_options(previous_context=Context(1)), float)

plain(5)  # type: ignore[arg-type]
plain()  # type: ignore[call-arg]
plain("a", nonsense=1)  # type: ignore[call-arg]
with_options("text")  # type: ignore[arg-type]

# A coroutine function

coroutine_object: Coroutine[Any, Any, str] = coroutine(1)


async def awaits() -> None:
    assert_type(await coroutine(1), str)
    assert_type(await coroutine_with_options(number=1), bytes)
    assert_type(await Report().fetch(1), str)
    await coroutine("1")  # type: ignore[arg-type]


# A method, bound

report = Report()
assert_type(report.load("a"), dict[str, int])
assert_type(report.send("a", urgent=True), bool)

report.load(5)  # type: ignore[arg-type]
report.send("a", True)  # type: ignore[call-arg]

# ... and from its class

assert_type(Report.load(report, "a"), dict[str, int])

# A class: it stays a class to the type checker

assert_type(Pipeline(), Pipeline)
assert_type(Pipeline().first(), int)
Pipeline(5)  # type: ignore[arg-type]
assert_type(Other(), Other)


class Longer(Pipeline):
    def second(self, pipeline: Pipeline | Other | None = None) -> int:
        return self.first()


assert_type(Longer().second(Pipeline()), int)

# The options

action(retry="3")  # type: ignore[call-overload]
action(retry_on="OSError")  # type: ignore[call-overload]
action(max_delay=[5])  # type: ignore[call-overload]
action(nonsense=1)  # type: ignore[call-overload]

# An action goes wherever its callable goes

takes_plain: Callable[[str], list[str]] = plain
takes_action: Action[[str], int] = bare
