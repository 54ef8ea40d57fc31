"""The virtual clock in another process: there it has no time to give, and says so."""

from typing import Any, NoReturn

from dotflow.errors import VirtualClockMisuse


class RemoteClock:
    """What becomes of the clock on its way to a worker process."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: raise_misuse(name)


def raise_misuse(method: str) -> NoReturn:
    """Says why a method can't be called here, and what to do."""
    raise VirtualClockMisuse(
        f"{method}() of the virtual clock was called in another process, where time is real. Run the step in this one: "
        f"in sequential or background mode without groups and isolate, or with Config(executor=ExecutorThread())."
    )
