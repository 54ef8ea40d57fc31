"""Tools with which users prove their own storages and pipelines. Each loads on first use.

`StorageContract`, `ExecutorContract` and `HistoryContract` are classes of pytest tests that providers sign;
`assert_survives_crashes` kills a workflow at every moment that matters, and resumes it; within `failing()`
the first attempts of a step fail; within `virtual_clock()` retry delays and schedules take no time.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dotflow.testing.clock.virtual_clock import VirtualClock, virtual_clock
    from dotflow.testing.contracts.executor import ExecutorContract
    from dotflow.testing.contracts.history import HistoryContract
    from dotflow.testing.contracts.storage import StorageContract
    from dotflow.testing.crash.launcher import assert_survives_crashes
    from dotflow.testing.crash.verify import CrashReport
    from dotflow.testing.step_failures import failing

__all__ = [
    "CrashReport",
    "ExecutorContract",
    "HistoryContract",
    "StorageContract",
    "VirtualClock",
    "assert_survives_crashes",
    "failing",
    "virtual_clock",
]

_MODULES = {
    "CrashReport": "crash.verify",
    "ExecutorContract": "contracts.executor",
    "HistoryContract": "contracts.history",
    "StorageContract": "contracts.storage",
    "VirtualClock": "clock.virtual_clock",
    "assert_survives_crashes": "crash.launcher",
    "failing": "step_failures",
    "virtual_clock": "clock.virtual_clock",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import sys
    from importlib import import_module

    module = f"{__name__}.{_MODULES[name]}"
    pytest = sys.modules.get("pytest")
    if pytest is not None and module not in sys.modules:  # so that a failed assert shows its values
        pytest.register_assert_rewrite(module)
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
