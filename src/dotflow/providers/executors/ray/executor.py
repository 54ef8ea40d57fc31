"""ExecutorRay: attempts on the workers of a Ray cluster."""

from collections.abc import Mapping
from typing import Any

from dotflow.abc.executor import Executor, ExecutorSession, Report
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument
from dotflow.processes.dispatcher import check_workers
from dotflow.providers.optional import require_extra


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
        **options: Options of `ray.init`, such as `runtime_env={"working_dir": "."}`.

    Raises:
        ImportError: Ray is not installed.
        InvalidArgument: The address is no text, or max_workers no whole number from 1.

    `open` raises ClusterError if Ray can't be reached. A lost cluster ends the run with a ClusterError; finished tasks
    keep their checkpoints. A lost worker fails its attempt with WorkerDied.
    """

    shares_memory = False
    offers_resources = True

    def __init__(self, address: str | None = None, max_workers: int | None = None, **options: Any) -> None:
        require_extra("ray", "ExecutorRay", "ray")
        if address is not None and (not isinstance(address, str) or not address):
            raise InvalidArgument("address", address, 'the address of a Ray cluster, such as "auto", or None')
        if max_workers is not None:
            check_workers(max_workers)
        self.address = address
        self.max_workers = max_workers
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
            return RaySession(job, self.max_workers, report)
        except BaseException:  # there is no session yet that would disconnect
            ray_connection.disconnect()
            raise
