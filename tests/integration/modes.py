"""Starting workflows with links in each mode, for tests of the graph."""

from pathlib import Path
from typing import Any

from dotflow import Config, DotFlow, Run
from dotflow.abc.storage import Storage
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorThread, LogDefault, StorageFile

MODES = ["sequential", "background", "parallel", "groups"]
COMPLETED, FAILED, SKIPPED, NOT_STARTED = (
    TypeStatus.COMPLETED,
    TypeStatus.FAILED,
    TypeStatus.SKIPPED,
    TypeStatus.NOT_STARTED,
)


def start(workflow: DotFlow, mode: str, **arguments: Any) -> Any:
    """Starts in one of MODES and waits for the end."""
    run = workflow.start(mode="sequential" if mode == "groups" else mode, **arguments)
    run.wait()
    return run


class StepsLab:
    """Workflows over one storage, of steps that note their calls, and fail while these are in `red`."""

    def __init__(self, folder: Path) -> None:
        self.storage: Storage = StorageFile(path=folder)
        self.ran: list[str] = []
        self.red: set[str] = set()

    def note(self, call: str) -> None:
        self.ran.append(call)
        if call in self.red:
            raise ValueError(f"{call} is red")

    def new(self) -> DotFlow:
        config = Config(storage=self.storage, log=LogDefault(output="none"), executor=ExecutorThread())
        return DotFlow(config, workflow_id="w")

    def start(self, workflow: DotFlow, mode: str = "sequential", **options: Any) -> Run:
        self.ran.clear()
        run: Run = start(workflow, mode, **options)
        return run


def named(run: Run, name: str) -> Any:
    """The task of this name."""
    return next(task for task in run.tasks if task.name == name)


def group(mode: str, number: int) -> str:
    """Two groups where the mode asks for groups, one elsewhere."""
    return f"group {number % 2}" if mode == "groups" else "default"


def statuses(workflow: DotFlow) -> list[TypeStatus]:
    return [task.status for task in workflow.result_task()]
