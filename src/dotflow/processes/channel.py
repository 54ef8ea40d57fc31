"""Messages over a socket, and how their objects are pickled.

A message is a header (kind, number, the parts' sizes) and its parts: a pickle and the buffers that it refers to. Large
values travel beside the pickle and are received without another copy. The same class serves the worker, which blocks,
and the coordinator, which never does.

Objects are pickled by value where the other process has another `__main__`. By reference is faster.
"""

import contextlib
import io
import itertools
import pickle
import socket
import struct
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import CodeType, FunctionType, MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import cloudpickle  # type: ignore[import-untyped]

from dotflow.capture.streams import name_of
from dotflow.core.action import Action
from dotflow.cpython import LOCK_ARGUMENTS

HEADER: Final = struct.Struct("!BQI")  # kind, number, count of parts
SIZE: Final = 8  # bytes of the size of a part
CHUNK: Final = 1 << 16  # bytes read at once while their number is unknown
MAX_BUFFERS: Final = 512  # of one sendmsg; POSIX allows 1024

CALL: Final = 1  # to the worker: make this attempt
OUTCOME: Final = 2  # from the worker: its outcome
STARTED: Final = 3  # from the worker: the attempt begins, its time runs; its part is the timeout
READY: Final = 4  # from the worker, once: it has started
RETURNED: Final = 5  # from the worker: the step has returned; pickling its value follows
SHARED: Final = 6  # to the worker: arguments that several calls share, by a number of their own
STEP: Final = 7  # to the worker: the pickle of a step, by its number, before the first call that needs it
REQUEST: Final = 8  # from the worker, in an attempt of a durable step: a request about a call
ANSWER: Final = 9  # to the worker: the answer to it
ENVIRON: Final = 10  # to the worker: variables that it has from now on

SECONDS: Final = struct.Struct("!d")  # the part of STARTED

MIN_BESIDE: Final = 1 << 14  # bytes of a part that travels beside a pickle

MAX_SHARED: Final = 8  # sets of shared arguments that a worker keeps: maps take turns, and their values may be large

K = TypeVar("K")
V = TypeVar("V")


def keep_shared(kept: dict[K, V], key: K, value: V) -> None:
    """Adds to the shared arguments that are kept, and drops the oldest. Both ends of a channel do the same."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_SHARED:
        del kept[next(iter(kept))]


class Message(NamedTuple):
    """A message that was received."""

    kind: int
    number: int
    parts: Sequence[memoryview]

    def load(self) -> Any:
        """Returns the object that was sent."""
        return pickle.loads(self.parts[0], buffers=self.parts[1:])


Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


class FreshLock(NamedTuple):
    """A lock of a program's own code, which a pickle loads as a new one of the same kind that no thread holds.

    A lock guards the memory of one process, so its state means nothing in another one.
    """

    lock: Any


def make_event(is_set: bool) -> threading.Event:
    """Returns a new event, set or not."""
    event = threading.Event()
    if is_set:
        event.set()
    return event


def _reducer(kind: type, arguments: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], Reduced]:
    return lambda lock: (kind, arguments(lock))


#: By kind, how a new lock is made.
REDUCERS: Final[Mapping[type, Callable[[Any], Reduced]]] = {
    type(threading.Lock()): lambda lock: (threading.Lock, ()),
    type(threading.RLock()): lambda lock: (threading.RLock, ()),
    threading.local: lambda local: (threading.local, ()),
    threading.Event: lambda event: (make_event, (event.is_set(),)),
    **{kind: _reducer(kind, arguments) for kind, arguments in LOCK_ARGUMENTS.items()},
}


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles actions that another process can't look up by name, and refuses objects that would be loaded changed.

    A global of a function or an attribute of a class that is a lock is loaded as a new lock.

    Args:
        file: Where the pickle goes.
        buffer_callback: Takes the buffers that are sent beside the pickle.
        is_code: Whether the pickle holds the program's own code, so that all its locks are loaded as new ones.
    """

    def __init__(self, file: Any, buffer_callback: Any = None, *, is_code: bool = False) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._is_code = is_code
        self._locks: dict[int, FreshLock] = {}  # by id: the same lock is loaded as the same lock

    def reducer_override(self, obj: Any) -> Any:
        """Returns how an object is pickled; NotImplemented leaves it to cloudpickle.

        Raises TypeError for an open file, which cloudpickle would turn into its text, and for a memoryview, which it
        would turn into bytes.
        """
        if isinstance(obj, io.TextIOBase | memoryview) and obj not in (sys.stdout, sys.stderr):
            if (name := name_of(obj)) is not None:  # it has a proxy
                return getattr, (sys, name)
            raise TypeError(f"cannot pickle '{type(obj).__name__}' object")
        if isinstance(obj, CodeType):  # cloudpickle drops the file's name, and tracebacks could show no line
            make, arguments, *_ = self.dispatch_table[CodeType](obj)
            return make, tuple(obj.co_filename if part == "<dynamic-code>" else part for part in arguments)
        if isinstance(obj, type):
            return self._reduce_class(obj, super().reducer_override(obj))
        if isinstance(obj, FunctionType):
            return self._renew_global_locks(super().reducer_override(obj))
        if isinstance(obj, FreshLock):
            return self._reduce_lock(obj.lock)
        if self._is_code and type(obj) in REDUCERS:
            return self._reduce_lock(obj)
        if isinstance(obj, Action) and _is_pickled_by_value(obj.__module__):
            return obj.reduce_by_value()
        return super().reducer_override(obj)

    def _reduce_lock(self, lock: Any) -> Reduced:
        make, arguments = REDUCERS[type(lock)](lock)
        return make, tuple(map(self._renew_lock, arguments))

    def _renew_lock(self, value: Any) -> Any:
        """Marks a lock to be loaded as a new one; any other value stays as it is."""
        if self._is_code or type(value) not in REDUCERS:
            return value
        return self._locks.setdefault(id(value), FreshLock(value))

    def _renew_global_locks(self, reduced: Any) -> Any:
        if not isinstance(reduced, tuple):  # it is pickled by reference
            return reduced
        make, arguments, (state, slots), *rest = reduced
        renewed = {name: self._renew_lock(value) for name, value in slots["__globals__"].items()}
        return (make, arguments, (state, slots | {"__globals__": renewed}), *rest)

    def _reduce_class(self, cls: type, reduced: Any) -> Any:
        """Renews the locks of a class that is pickled by value, and keeps its attributes in the order of its lines.

        cloudpickle sorts them by name, but a class step runs its actions in the order of its lines.
        """
        if not isinstance(reduced, tuple) or len(reduced) < 6 or not isinstance(reduced[2], tuple):
            return reduced
        make, arguments, (attributes, *slots), items, pairs, set_state = reduced
        names = [*(name for name in vars(cls) if name in attributes), *attributes]
        renewed = {name: self._renew_lock(attributes[name]) for name in names}
        _complete_classes.add(cls)
        return make, arguments, (set_state, (renewed, *slots)), items, pairs, complete_class


def _is_pickled_by_value(module: str) -> bool:
    """Returns whether a module is `__main__` or registered with cloudpickle: another process can't import it."""
    return module == "__main__" or any(
        module == name or module.startswith(f"{name}.") for name in cloudpickle.list_registry_pickle_by_value()
    )


#: Classes pickled by value: those that this process has sent, and those that it has loaded.
_complete_classes: Final[weakref.WeakSet[type]] = weakref.WeakSet()


def complete_class(cls: type, state: tuple[Callable[[type, Any], object], Any]) -> None:
    """Sets the attributes of a loaded class, once: afterwards its locks and methods may be in use.

    cloudpickle would set them each time that an instance is loaded.
    """
    if cls not in _complete_classes:
        _complete_classes.add(cls)
        set_state, attributes = state
        set_state(cls, attributes)


def dump_by_value(value: object) -> list[Any]:
    """Pickles for a process with another `__main__`: what ours defines travels by value."""
    return _dump(Pickler, value)


def _dump(pickler: Callable[..., Any], value: object) -> list[Any]:
    buffers: list[pickle.PickleBuffer] = []
    with io.BytesIO() as file:
        pickler(file, buffer_callback=buffers.append).dump(value)
        return [file.getvalue(), *(buffer.raw() for buffer in buffers)]


def dump_whole(value: object, *, is_code: bool = False) -> bytes:
    """Pickles by value in one piece, buffers included; *is_code* as in Pickler."""
    with io.BytesIO() as file:
        Pickler(file, is_code=is_code).dump(value)
        return file.getvalue()


Dump = Callable[[object], list[Any]]

#: Types whose instances are the same however they are pickled.
SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})


class ReferencePickler(pickle.Pickler):
    """Pickles by reference what pickle does, and read-only mappings, such as a run's parameters."""

    def reducer_override(self, obj: Any) -> Any:
        """Returns how a read-only mapping is pickled; NotImplemented leaves all others to pickle."""
        return (_read_only, (dict(obj),)) if isinstance(obj, MappingProxyType) else NotImplemented


def _read_only(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


def dump_by_reference(value: object) -> list[Any]:
    """Pickles for a parent or child by fork, which has the same `__main__`."""
    try:
        return dump_beside(value)
    except Exception:  # a value that pickle can't look up by name, or whose own methods raise
        pass
    try:  # takes twice as long
        return _dump(partial(ReferencePickler, protocol=5), value)
    except Exception:  # a lambda or a local class can only be pickled by value
        return dump_by_value(value)


def dump_beside(value: object) -> list[Any]:
    """Pickles what pickle can, with the buffers that it refers to beside it, which are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    return [pickle.dumps(value, protocol=5, buffer_callback=buffers.append), *(buffer.raw() for buffer in buffers)]


def dump_plain(value: object) -> list[Any]:
    """Pickles what holds only scalars and the library's own types: in a tenth of the time, and for any process."""
    return [pickle.dumps(value, protocol=5)]


class Channel:
    """One end of a socket that carries messages.

    Args:
        sock: A connected stream socket, blocking or not.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._out: deque[memoryview] = deque()
        self._pending = bytearray()
        self._body: memoryview | None = None
        self._filled = 0
        self._header: tuple[int, int, tuple[int, ...]] = (0, 0, ())

    def fileno(self) -> int:
        """Returns the descriptor, for selectors."""
        return self.sock.fileno()

    def close(self) -> None:
        """Ends the connection, though later workers have copies of the socket by fork."""
        with contextlib.suppress(OSError):  # it has ended
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def queue(self, kind: int, number: int, parts: Sequence[Any]) -> None:
        """Adds a message to the queue; `flush` sends it."""
        views = [memoryview(part).cast("B") for part in parts]
        sizes = [view.nbytes for view in views]
        header = struct.pack(f"{HEADER.format}{len(sizes)}Q", kind, number, len(sizes), *sizes)
        self._out.append(memoryview(header))
        self._out.extend(view for view in views if view.nbytes)

    def flush(self) -> bool:
        """Sends as much as the socket takes; returns whether the queue is empty."""
        out = self._out
        while out:
            try:
                sent = self.sock.sendmsg(itertools.islice(out, MAX_BUFFERS))
            except BlockingIOError:
                return False
            while sent:
                size = out[0].nbytes
                if sent < size:
                    out[0] = out[0][sent:]
                    break
                del out[0]
                sent -= size
        return True

    def receive(self) -> Iterator[Message]:
        """Yields each message that has been received whole; a blocking socket waits for the next one for ever.

        Raises EOFError when the other end is closed.
        """
        is_blocking = self.sock.getblocking()
        is_drained = False
        while True:
            message = self._next_message()
            if message is not None:
                yield message
                continue
            try:
                if self._body is None:
                    if is_drained:
                        return
                    data = self.sock.recv(CHUNK)
                    count = len(data)
                    self._pending += data
                    is_drained = not is_blocking and count < CHUNK
                else:
                    count = self.sock.recv_into(self._body[self._filled :])
                    self._filled += count
            except BlockingIOError:
                return
            except ConnectionResetError:
                count = 0
            if not count:
                raise EOFError("the other end of the channel is closed")

    def _next_message(self) -> Message | None:
        """Returns the next whole message of what was read."""
        if self._body is None and not self._read_header():
            return None
        assert self._body is not None
        if self._filled < self._body.nbytes:
            return None
        kind, number, sizes = self._header
        body, self._body = self._body, None
        parts, start = [], 0
        for size in sizes:
            parts.append(body[start : start + size])
            start += size
        return Message(kind, number, parts)

    def _read_header(self) -> bool:
        """Reads a header; returns False while it is incomplete."""
        pending = self._pending
        if len(pending) < HEADER.size:
            return False
        kind, number, count = HEADER.unpack_from(pending)
        start = HEADER.size + count * SIZE
        if len(pending) < start:
            return False
        sizes = struct.unpack_from(f"!{count}Q", pending, HEADER.size)
        end = start + sum(sizes)
        there = pending[start:end]
        body = bytearray(end - start)
        body[: len(there)] = there
        del pending[:end]
        self._filled = len(there)
        self._body = memoryview(body)
        self._header = (kind, number, sizes)
        return True
