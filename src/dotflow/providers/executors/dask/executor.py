"""ExecutorDask: attempts on the workers of a Dask cluster."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from dotflow.abc.executor import Executor, ExecutorSession, Report
from dotflow.core.task import Task
from dotflow.errors import ClusterError, InvalidArgument
from dotflow.providers.optional import require_extra

if TYPE_CHECKING:
    from distributed import Client


class ExecutorDask(Executor):
    """Makes attempts on the workers of a Dask cluster.

    Each step runs in a process beside the Dask worker, so a timeout ends anything, and a crash ends no other task. A
    worker keeps a step's value for the next step of the lane; the value is also sent here, for the record and the
    storage. Needs `pip install 'dotflow[dask]'`, here and on the workers.

    Args:
        address_or_client: The scheduler's address, such as "tcp://10.0.0.5:8786", or a `distributed.Client`, which
            stays open. The default is Dask's setting `scheduler-address`, which DASK_SCHEDULER_ADDRESS sets, else a
            cluster in this process with one thread for each core. A process connects to an address once: its runs
            share the connection until it ends.
        **options: Options of `distributed.Client`, such as `timeout` (seconds to reach the scheduler) and `security`
            (the certificate for a tls:// address). Without TLS, all who reach the scheduler can run code.

    Raises:
        ImportError: Dask's distributed is not installed.
        InvalidArgument: The argument is no address, or a client that can't be used here.

    `open` raises ClusterLost if the scheduler can't be reached. A lost worker fails its attempts with WorkerDied. If a
    lost scheduler is back within the client's `timeout` (30 s, Dask's setting `distributed.comm.timeouts.connect`),
    that is like the loss of all workers. If it stays away, the run ends with a ClusterLost, and finished tasks keep
    their checkpoints.
    """

    shares_memory = False
    offers_resources = True
    keeps_calls = True

    def __init__(self, address_or_client: "str | Client | None" = None, **options: Any) -> None:
        require_extra("distributed", "ExecutorDask", "dask")
        client = None if address_or_client is None or isinstance(address_or_client, str) else address_or_client
        accepted = 'the address of a scheduler, such as "tcp://10.0.0.5:8786", a distributed.Client, or None'
        if address_or_client == "" or (client is not None and not hasattr(client, "scheduler_info")):
            raise InvalidArgument("address_or_client", address_or_client, accepted)
        if client is not None and client.asynchronous:
            raise InvalidArgument("address_or_client", client, "a Client that was not made with asynchronous=True")
        if client is not None and options:
            raise InvalidArgument("options", options, "none with a Client of your own")
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

        from dotflow.providers.executors.cluster.cluster_session import unusable
        from dotflow.providers.executors.dask import connection as dask_connection
        from dotflow.providers.executors.dask.dask_session import DaskSession

        if self.client is not None:
            return DaskSession(self.client, report, is_ours=False)

        address = self._scheduler()
        name = f"Dask's scheduler at {address}" if address else "Dask"
        here = {} if address else {"processes": False, "dashboard_address": "127.0.0.1:0"}
        try:
            if address:  # raises ValueError; a Client with a bad address would keep the interpreter from ending
                scheme = parse_address(address)[0]
                get_backend(scheme)
                if scheme == "tls" and not self._has_certificate():
                    hint = "Pass security=distributed.Security(...) with the files of a certificate."
                    raise ClusterError(name, "can't be reached: it needs a certificate", hint)
            make = partial(Client, address, **{"set_as_default": False, "name": "dotflow", **here, **self.options})
            client = dask_connection.connect(address, self.options, make) if address else make()
        except (OSError, ValueError) as error:
            hint = "Check that it runs, and that this machine can reach it; timeout=... sets how long to wait."
            raise unusable(name, "can't be reached", error, hint) from error
        return DaskSession(client, report, is_ours=address is None)

    def _has_certificate(self) -> bool:
        """Returns whether `security`, or Dask's own settings, name the files of a certificate."""
        from distributed import Security

        security = self.options.get("security") or Security()  # True: Dask makes a temporary one
        return security is True or security.get_connection_args("client")["ssl_context"] is not None

    def _scheduler(self) -> str | None:
        """Returns the scheduler's address; None if a new cluster is needed."""
        import dask

        return self.address or dask.config.get("scheduler-address", None)
