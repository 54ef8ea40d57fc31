"""RemoteClock: what a virtual clock is in a worker process, which uses real time."""

from typing import Any, NoReturn

from dotflow.errors import VirtualClockMisuse


class RemoteClock:
    """A virtual clock that was sent to another process: each of its methods raises VirtualClockMisuse."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: raise_misuse(name)


def raise_misuse(method: str) -> NoReturn:
    """Raises the error for a call in another process."""
    raise VirtualClockMisuse(
        f"{method}() of the virtual clock was called in another process, where time is real. Run the step in the "
        f"test's process: in sequential or background mode without groups and isolate, or with "
        f"Config(executor=ExecutorThread())."
    )
