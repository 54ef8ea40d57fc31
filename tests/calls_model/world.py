"""What the programs of the model do, written into a log that outlives their processes, and the kills on the way.

A program passes each of its calls through `call` or `acall`, and each of its effects is one of `World.effect`. The
lines of the log are all that `memo` knows of a run.
"""

import asyncio
import hashlib
import inspect
import itertools
import json
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, NamedTuple

#: Parameters that don't tell calls apart.
NOT_COUNTED: Final = ("idempotency_key", "client")
#: The call whose function runs, by its number.
CALL: Final = ContextVar[int]("CALL", default=-1)
#: The concurrent tasks and threads that lead here from the body.
BRANCH: Final = ContextVar[tuple[int, ...]]("BRANCH", default=())


class Fail(Exception):
    """What an effect raises."""


class Declined(Fail):
    """The same, as a class of its own."""


class Bug(Exception):
    """An error of a body."""


class Client:
    """What has no digest."""


class Kill(NamedTuple):
    """Where a run is killed.

    Attributes:
        side: "worker", or "coordinator", where it may be another process.
        count: How many moments of that side it passes before.
        is_exit: Whether by `os._exit`, and not by SIGKILL.
    """

    side: str
    count: int
    is_exit: bool


class World:
    """What outlives a process, as one process sees it."""

    folder = Path()
    run = 0
    names: dict[int, str]  # of the program's functions, by id
    kills: Sequence[Kill] = ()

    def __init__(self) -> None:
        self._log = -1
        self._numbers = itertools.count()
        self._passed = {"worker": 0, "coordinator": 0}
        self._pid = 0
        self._kill: Kill | None = None
        self._marker = Path()
        self.failures: list[tuple[BaseException, int]] = []
        self.names = {}

    def begin(self, folder: Path, run: int, kills: Sequence[Kill]) -> None:
        """Begins a run, in the process that starts it."""
        self.folder, self.run, self.kills = folder, run, kills
        self._log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._pid = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles how the run began, for a worker of a cluster, which then writes into the same log."""
        return _world_of, (self.folder, self.run, self.kills)

    def write(self, *line: Any) -> None:
        """Appends a line: a kill leaves all of it or nothing."""
        os.write(self._log, json.dumps(line).encode() + b"\n")

    def number(self) -> int:
        """Returns a number that no other process of the run has."""
        return os.getpid() * 100_000 + next(self._numbers)

    def passes(self, side: str) -> None:
        """Passes a moment at which the run may be killed."""
        if self._pid != os.getpid():
            self._enter_process()
        if self._kill is None or self._kill.side != side:
            return
        if self._passed[side] == self._kill.count:
            self._marker.touch()
            self.write("killed", *self._kill)
            if self._kill.is_exit:
                os._exit(9)
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed[side] += 1

    def _enter_process(self) -> None:
        self._pid = os.getpid()
        self._passed = {"worker": 0, "coordinator": 0}
        self._kill = None
        for number, kill in enumerate(self.kills):
            marker = self.folder / f"kill-{self.run}-{number}"
            if not marker.exists():
                self._kill, self._marker = kill, marker
                return

    def effect(self, name: str, version: int, arguments: dict[str, Any], key: str | None = None) -> Any:
        """Does what an action does: it is counted, and returns or raises what depends on its arguments."""
        number = self._begin_effect(name, version, arguments, key)
        return self._end_effect(number, name, version, arguments)

    async def effect_async(self, name: str, version: int, arguments: dict[str, Any], key: str | None = None) -> Any:
        """The same in a coroutine, which others overtake."""
        number = self._begin_effect(name, version, arguments, key)
        await asyncio.sleep((0, 0.001, 0.012)[digest(arguments) % 3])
        return self._end_effect(number, name, version, arguments)

    def _begin_effect(self, name: str, version: int, arguments: dict[str, Any], key: str | None) -> int:
        number = self.number()
        self.write("effect", number, CALL.get(), name, version, text_of(arguments), key)
        self.passes("worker")
        return number

    def _end_effect(self, number: int, name: str, version: int, arguments: dict[str, Any]) -> Any:
        failures = failures_of(name, version, arguments)
        if self._count(name, arguments) <= failures:
            kind = (Fail, Declined, FileNotFoundError)[digest(name, arguments) % 3]
            args = (2, f"{name} {number}", "a.txt") if kind is FileNotFoundError else (name, number)
            self.write("raises", number, kind.__name__, args)
            self.passes("worker")
            raise kind(*args)
        value = [name, version, digest(name, arguments) % 97, number]
        self.write("returns", number, value)
        self.passes("worker")
        return value

    def _count(self, name: str, arguments: dict[str, Any]) -> int:
        path = self.folder / f"count-{digest(name, arguments):x}"
        with path.open("ab") as file:
            file.write(b".")
        return path.stat().st_size

    def ask(self, scope: int, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> int:
        """Notes that a body makes a call."""
        number = self.number()
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        name = self.names[id(function)] if self.names else function.name  # on a worker of a cluster
        arguments = text_of(bound.arguments)
        is_later = inspect.iscoroutinefunction(getattr(function, "function", function))
        self.write("ask", number, scope, name, arguments, BRANCH.get(), threading.get_ident(), is_later)
        self.passes("worker")
        return number

    def got(self, number: int, value: Any) -> Any:
        self.write("got", number, value)
        self.passes("worker")
        return value

    def fail(self, number: int, error: BaseException) -> None:
        self.failures.append((error, number))
        args = [] if isinstance(error, BaseExceptionGroup) else as_plain(error.args)
        where = (BRANCH.get(), threading.get_ident())
        self.write("fail", number, type(error).__name__, args, str(error), isinstance(error, Exception), *where)
        self.passes("worker")

    def body(self, name: str) -> int:
        """Notes that a body begins, and returns the number of its scope."""
        number = self.number()
        self.write("begin", number, name, CALL.get(), BRANCH.get(), threading.get_ident())
        self.passes("worker")
        return number

    def end(self, scope: int, value: Any) -> Any:
        self.write("end", scope, value)
        self.passes("worker")
        return value

    def raised(self, scope: int, error: BaseException) -> None:
        self.write("raised", scope, self._tree(error, []))
        self.passes("worker")

    def _tree(self, error: BaseException | None, above: list[BaseException]) -> Any:
        """Describes an error, those that led to it, and its members. Each with the calls that raised it."""
        if error is None or any(error is one for one in above):
            return None
        above = [*above, error]
        return {
            "type": type(error).__name__,
            "text": str(error)[:200],
            "calls": [number for one, number in self.failures if one is error],
            "cause": self._tree(error.__cause__, above),
            "context": self._tree(error.__context__, above),
            "members": [self._tree(one, above) for one in getattr(error, "exceptions", ())],
        }


W: Final = World()


def _world_of(folder: Path, run: int, kills: Sequence[Kill]) -> World:
    W.begin(folder, run, kills)
    return W


def digest(*parts: Any) -> int:
    return int.from_bytes(hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=6).digest())


def text_of(arguments: dict[str, Any]) -> str:
    """Returns the text that stands for arguments."""
    counted = {name: value for name, value in arguments.items() if name not in NOT_COUNTED}
    return json.dumps(as_plain(counted), sort_keys=True)


def as_plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=repr))


def failures_of(name: str, version: int, arguments: dict[str, Any]) -> int:
    """Returns how often an effect fails before it succeeds."""
    return (0, 0, 0, 0, 0, 1, 1, 2, 1000)[digest(name, version, arguments) % 9]


def call(scope: int, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Makes a call."""
    number = W.ask(scope, function, args, kwargs)
    token = CALL.set(number)
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        W.fail(number, error)
        raise
    finally:
        CALL.reset(token)
    return W.got(number, value)


def acall(scope: int, function: Any, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
    """Calls a coroutine action, to be awaited later."""
    number = W.ask(scope, function, args, kwargs)
    return _await(number, function(*args, **kwargs))


async def _await(number: int, made: Awaitable[Any]) -> Any:
    token = CALL.set(number)
    W.write("awaits", number, BRANCH.get(), threading.get_ident())
    try:
        value = await made
    except BaseException as error:
        W.fail(number, error)
        raise
    finally:
        CALL.reset(token)
    return W.got(number, value)


async def task(made: Awaitable[Any]) -> Any:
    """Awaits in a task of its own."""
    BRANCH.set((*BRANCH.get(), W.number()))
    return await made


async def limited(semaphore: asyncio.Semaphore, make: Callable[[], Awaitable[Any]]) -> Any:
    """The same, a few at a time."""
    BRANCH.set((*BRANCH.get(), W.number()))
    async with semaphore:
        return await make()


def thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function in a thread, whose context is its own."""
    BRANCH.set((*BRANCH.get(), W.number()))
    return function(*args, **kwargs)


def pick(out: Sequence[Any]) -> int:
    """Returns a small number that depends on the last value, and is the same if its call is made again."""
    last: Any = out[-1] if out else None
    while isinstance(last, list) and last and isinstance(last[0], list):
        last = last[-1]
    return last[2] % 3 if isinstance(last, list) and len(last) > 3 and isinstance(last[2], int) else 0


def fresh(out: Sequence[Any]) -> int:
    """Returns a number that no other effect has."""
    last: Any = out[-1] if out else None
    return last[3] if isinstance(last, list) and len(last) > 3 and isinstance(last[3], int) else 0


def plain(value: Any) -> Any:
    """Returns values without the errors among them."""
    return [type(one).__name__ if isinstance(one, BaseException) else one for one in value]


def spoil(out: Sequence[Any]) -> None:
    """Changes the last value in place, which changes no record of it."""
    if out and isinstance(out[-1], list):
        out[-1].append("own")
