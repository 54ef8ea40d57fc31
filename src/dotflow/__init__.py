"""dotflow: pipelines of Python functions. It needs nothing, loses nothing, hides nothing.

from dotflow import DotFlow, action

@action(retry=3, timeout=10)
def extract():
    return [1, 2, 3]

@action
def total(previous_context):
    return sum(previous_context.storage)

workflow = DotFlow()
workflow.task.add(step=[extract, total])
workflow.start()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dotflow.calls.waits import aask, ask, asleep, sleep
    from dotflow.config import Config
    from dotflow.control import Control
    from dotflow.core.approval import Approval
    from dotflow.core.context import Context
    from dotflow.core.decorator import action
    from dotflow.core.failure import TaskError
    from dotflow.core.resources import Resources
    from dotflow.core.secret import Secret
    from dotflow.core.setting import Setting
    from dotflow.core.task import Task
    from dotflow.engine.run import Run
    from dotflow.errors import CommandFailed, NotYet, Throttled
    from dotflow.graph.linked_task import MapContext
    from dotflow.graph.workflow_plan import WorkflowPlan as WorkflowPlan
    from dotflow.providers.schedulers.cron_times import FireTime
    from dotflow.serving.server import serve
    from dotflow.worker.atomic_path import atomic_path
    from dotflow.worker.notes import note, used
    from dotflow.worker.shell import shell
    from dotflow.workflow import DotFlow

# WorkflowPlan is not in it: `from dotflow import *` would load Pydantic.
__all__ = [
    "Approval",
    "CommandFailed",
    "Config",
    "Context",
    "Control",
    "DotFlow",
    "FireTime",
    "MapContext",
    "NotYet",
    "Resources",
    "Run",
    "Secret",
    "Setting",
    "Task",
    "TaskError",
    "Throttled",
    "aask",
    "action",
    "ask",
    "asleep",
    "atomic_path",
    "note",
    "serve",
    "shell",
    "sleep",
    "used",
]

__version__ = "0.1.0"

_MODULES = {
    "Approval": "dotflow.core.approval",
    "CommandFailed": "dotflow.errors",
    "Config": "dotflow.config",
    "Context": "dotflow.core.context",
    "Control": "dotflow.control",
    "DotFlow": "dotflow.workflow",
    "FireTime": "dotflow.providers.schedulers.cron_times",
    "MapContext": "dotflow.graph.linked_task",
    "NotYet": "dotflow.errors",
    "Resources": "dotflow.core.resources",
    "Run": "dotflow.engine.run",
    "Secret": "dotflow.core.secret",
    "Setting": "dotflow.core.setting",
    "Task": "dotflow.core.task",
    "TaskError": "dotflow.core.failure",
    "Throttled": "dotflow.errors",
    "WorkflowPlan": "dotflow.graph.workflow_plan",
    "aask": "dotflow.calls.waits",
    "action": "dotflow.core.decorator",
    "ask": "dotflow.calls.waits",
    "asleep": "dotflow.calls.waits",
    "atomic_path": "dotflow.worker.atomic_path",
    "note": "dotflow.worker.notes",
    "serve": "dotflow.serving.server",
    "shell": "dotflow.worker.shell",
    "sleep": "dotflow.calls.waits",
    "used": "dotflow.worker.notes",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        hint = "" if name.startswith("_") else _hint(name)
        if hint and import_module("dotflow.cpython").is_from_import():
            raise ImportError(hint, name=__name__)
        raise AttributeError(hint or f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def _hint(name: str) -> str:
    """Returns where a name is that the package does not have, or what it is called here; "" for any other name."""
    from dotflow.core.hints import NAMES  # here: only errors need them
    from dotflow.providers import __all__ as providers

    if name in providers:
        return f"{name} is a provider: from dotflow.providers import {name}"
    return f"{name} is called {NAMES[name]} here: from dotflow import {NAMES[name]}" if name in NAMES else ""


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
