"""ExecutorRay: attempts on the workers of a Ray cluster."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.abc.executor import Executor, ExecutorSession, Report
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument
from dotflow.processes.dispatcher import check_workers
from dotflow.providers.optional import require_extra

MAX_KEEP: Final = 30.0  # seconds; Ray ends a program whose connection has lost its head for 60 s


class ExecutorRay(Executor):
    """Makes attempts on the workers of a Ray cluster.

    A run has actors, each with one CPU unless its steps need other resources, and ends them when it ends. Each step
    runs in a process beside its actor, so a timeout ends anything. A worker keeps a step's value for the next step of
    the lane; the value is also sent here, for the record and the storage. Needs `pip install 'dotflow[ray]'`, here and
    on the workers.

    Args:
        address: The address of the head, such as "10.0.0.5:6379", or "auto" for the cluster of this machine. The
            default is RAY_ADDRESS, else the cluster that `ray start` began on this machine, else a new one for the time
            of the run, as with "local". A process that has called `ray.init` keeps that connection.
        max_workers: The maximum number of actors for each set of resources; the cluster's number of CPUs by default.
        keep: For how many seconds after a run its connection and its actors stay for the next one, at most 30. A second
            run then begins at once, where its actors take a second to start; until then they take their CPUs, and a
            `ray.init` of the program fails. By default they end with the run.
        **options: Options of `ray.init`, such as `runtime_env={"working_dir": "."}`.

    Raises:
        ImportError: Ray is not installed.
        InvalidArgument: The address is no text, max_workers no whole number from 1, or keep not from 0 to 30.

    `open` raises ClusterLost if Ray can't be reached. A lost cluster ends the run with a ClusterLost; finished tasks
    keep their checkpoints. A lost worker fails its attempt with WorkerDied.
    """

    shares_memory = False
    offers_resources = True
    keeps_calls = True

    def __init__(
        self, address: str | None = None, max_workers: int | None = None, keep: float = 0.0, **options: Any
    ) -> None:
        require_extra("ray", "ExecutorRay", "ray")
        if address is not None and (not isinstance(address, str) or not address):
            raise InvalidArgument("address", address, 'the address of a Ray cluster, such as "auto", or None')
        if max_workers is not None:
            check_workers(max_workers)
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 <= keep <= MAX_KEEP:
            raise InvalidArgument("keep", keep, f"a number of seconds from 0 to {MAX_KEEP:g}")
        self.address = address
        self.max_workers = max_workers
        self.keep = keep
        self.options = options

    @property
    def is_remote(self) -> bool:
        from dotflow.providers.executors.ray import connection as ray_connection

        return ray_connection.has_other_machines(self.address)

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        from dotflow.providers.executors.ray import connection as ray_connection
        from dotflow.providers.executors.ray.ray_session import RaySession

        job = ray_connection.connect(self.address, self.options)
        try:
            return RaySession(job, self.max_workers, self.keep, report)
        except BaseException:  # there is no session yet that would disconnect
            ray_connection.disconnect(self.keep)
            raise
