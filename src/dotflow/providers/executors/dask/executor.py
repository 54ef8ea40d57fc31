"""ExecutorDask: attempts on the workers of a Dask cluster."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dotflow.abc.executor import Executor, ExecutorSession, Report
from dotflow.core.task import Task
from dotflow.errors import ClusterError, InvalidArgument
from dotflow.providers.optional import require_extra

if TYPE_CHECKING:
    from distributed import Client


class ExecutorDask(Executor):
    """Makes attempts on the workers of a Dask cluster.

    There, each step runs in a process of its own beside the Dask worker: a timeout ends anything, and a step that
    crashes takes nothing else with it. What a lane's step returns stays there for the next one; it also comes here,
    for the record and the storage. Needs `pip install 'dotflow[dask]'`, here and on the workers.

    Args:
        address_or_client: The scheduler's address, such as "tcp://10.0.0.5:8786", or a `distributed.Client`, which is
            left open. Unless given, that of Dask's setting `scheduler-address`, which DASK_SCHEDULER_ADDRESS sets; else
            a cluster in this process, with as many threads as there are cores.
        **options: Those of `distributed.Client`, such as `timeout` (seconds to wait for the scheduler) and `security`.

    Raises:
        ImportError: Dask's distributed is not installed.
        InvalidArgument: It is neither an address nor a client that can be used here.

    `open` raises ClusterError where the scheduler can't be reached. A scheduler that goes away ends the run with a
    ClusterError; what is finished keeps its checkpoints. A worker that goes away fails the attempts in the middle of
    which it was, with WorkerDied.
    """

    def __init__(self, address_or_client: "str | Client | None" = None, **options: Any) -> None:
        require_extra("distributed", "ExecutorDask", "dask")
        client = None if address_or_client is None or isinstance(address_or_client, str) else address_or_client
        accepted = 'the address of a scheduler, such as "tcp://10.0.0.5:8786", a distributed.Client, or None'
        if address_or_client == "" or (client is not None and not hasattr(client, "scheduler_info")):
            raise InvalidArgument("address_or_client", address_or_client, accepted)
        if client is not None and client.asynchronous:
            raise InvalidArgument("address_or_client", client, "a Client that was not made with asynchronous=True")
        if client is not None and options:
            raise InvalidArgument("options", options, "for the Client that is made here, and one was given")
        self.client = client
        self.address: str | None = address_or_client if isinstance(address_or_client, str) else None
        self.options = options

    @property
    def is_remote(self) -> bool:
        return self.client is not None or self._scheduler() is not None

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        from distributed import Client
        from distributed.comm import parse_address
        from distributed.comm.registry import get_backend

        from dotflow.providers.executors.cluster.session import describe_error
        from dotflow.providers.executors.dask.session import DaskSession

        if self.client is not None:
            return DaskSession(self.client, report, is_ours=False)

        address = self._scheduler()
        name = f"Dask's scheduler at {address}" if address else "Dask"
        here = {} if address else {"processes": False, "dashboard_address": "127.0.0.1:0"}
        try:
            if address:  # raises ValueError; a Client that finds out by itself keeps the interpreter from ending
                get_backend(parse_address(address)[0])
            client = Client(address, **{"set_as_default": False, "name": "dotflow", **here, **self.options})
        except (OSError, ValueError) as error:
            hint = (
                "Look whether it runs there, and whether this machine can reach it; timeout=... sets how long to wait."
            )
            raise ClusterError(name, f"can't be reached: {describe_error(error)}", hint) from error
        return DaskSession(client, report, is_ours=True)

    def _scheduler(self) -> str | None:
        """The scheduler's address; None where there is none, and a cluster is made here."""
        import dask

        return self.address or dask.config.get("scheduler-address", None)
