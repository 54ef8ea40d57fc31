"""ExecutorRay: attempts on the workers of a Ray cluster."""

from collections.abc import Mapping
from typing import Any

from dotflow.abc.executor import Executor, ExecutorSession, Report
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument
from dotflow.processes.scaling import check_workers
from dotflow.providers.optional import require_extra


class ExecutorRay(Executor):
    """Makes attempts on the workers of a Ray cluster.

    A run has actors there, each with one CPU unless its steps ask for other resources, and lets go of them at its end.
    Beside the actor, each step runs in a process of its own: a timeout ends anything. What a lane's step returns stays
    there for the next one; it also comes here, for the record and the storage. Needs `pip install 'dotflow[ray]'`, here
    and on the workers.

    Args:
        address: The head's, such as "10.0.0.5:6379", or "auto" for the cluster that this machine belongs to; unless
            given, that of RAY_ADDRESS, else the one that `ray start` has begun on this machine, else one is begun here
            for the time of the run ("local" does that in any case). A process that has called `ray.init` stays with
            that.
        max_workers: How many actors there may be at once, for each set of resources that steps ask for; as many as the
            cluster has CPUs unless given.
        **options: Those of `ray.init`, such as `runtime_env={"working_dir": "."}`.

    Raises:
        ImportError: Ray is not installed.
        InvalidArgument: The address is no text, or max_workers no whole number from 1.

    `open` raises ClusterError where Ray can't be reached. A cluster that goes away ends the run with a ClusterError;
    what is finished keeps its checkpoints. A worker that goes away fails the attempt in the middle of which it was,
    with WorkerDied.
    """

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
        from dotflow.providers.executors.ray.session import RaySession

        job = ray_connection.connect(self.address, self.options)
        try:
            return RaySession(job, self.max_workers, report)
        except BaseException:  # nobody is there yet who would close it
            ray_connection.disconnect()
            raise
