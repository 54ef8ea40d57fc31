"""StandIn: an object in place of sys.stdout or sys.stderr, which passes all on and lets it be seen."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

See = Callable[[int, bytes], object]


class StandIn:
    """Stands in for a text stream. It behaves as the stream itself in all but what is written, which *see* takes, too.

    Attributes:
        users: The number of runs that need the stand-in.
    """

    stream: Any
    users: int

    def __init__(self, stream: Any, number: int, see: See) -> None:
        own: dict[str, Any] = {"stream": stream, "users": 0, "_number": number, "_see": see, "_buffer": None}
        vars(self).update(own)

    def write(self, text: str) -> int:
        """Writes text, as the stream does."""
        count: int = self.stream.write(text)
        if text.__class__ is str:
            self._see(self._number, text.encode("utf-8", "backslashreplace"))
        return count

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes lines, as the stream does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes the stream."""
        self.stream.flush()

    @property
    def buffer(self) -> Any:
        """The stream's buffer, which is seen as well."""
        buffer = self.stream.buffer
        if self._buffer is None or self._buffer.stream is not buffer:
            vars(self)["_buffer"] = StandInBuffer(buffer, self._number, self._see)
        return self._buffer

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The class of the stream, so that `isinstance` tells them apart as little as anything else."""
        return type(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.stream, name)

    def __enter__(self) -> Any:
        self.stream.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self.stream.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self.stream)

    def __next__(self) -> Any:
        return next(self.stream)

    def __repr__(self) -> str:
        return repr(self.stream)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Makes it the same stream of the process that loads it."""
        return getattr, (sys, "stdout" if self._number == 1 else "stderr")


class StandInBuffer(StandIn):
    """Stands in for the buffer of a text stream."""

    def write(self, data: Any) -> int:
        """Writes bytes, as the buffer does."""
        count: int = self.stream.write(data)
        self._see(self._number, bytes(memoryview(data).cast("B")[:count]))
        return count
