"""A Ray cluster on this machine: a head and a second node, as they would run on two."""

import contextlib
import logging
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

#: Nothing is sent to anybody, and the nodes trust each other.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
STORE = 200 * 2**20  # bytes of shared memory for each node


class RayProcesses:
    """A head and one more node, with two CPUs each.

    Args:
        cpus: How many CPUs each has.
        resources: What the second node has beside.

    Attributes:
        address: The head's.
    """

    def __init__(self, cpus: int = 2, **resources: float) -> None:
        os.environ |= SETTINGS
        from ray.cluster_utils import Cluster

        self._given = {"num_cpus": cpus, "object_store_memory": STORE, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=self._given)
        self.second = self.add_node(resources=resources)
        self.address: str = self._cluster.address

    def add_node(self, **more: Any) -> Any:
        """One more node."""
        return self._cluster.add_node(**{**self._given, **more})

    @staticmethod
    def pid_of(node: Any) -> int:
        """The process that starts the node's workers."""
        (raylet,) = node.all_processes["raylet"]
        return int(raylet.process.pid)

    def kill(self, node: Any) -> None:
        """A machine that is suddenly gone."""
        self._cluster.remove_node(node, allow_graceful=False)

    @contextlib.contextmanager
    def connection(self) -> Iterator[None]:
        """Connects this process."""
        import ray

        ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            ray.get(
                [ray.remote(lambda: None).remote() for _ in range(8)]
            )  # the processes that Ray has in store have begun
            yield
        finally:
            ray.shutdown()

    def close(self) -> None:
        """Ends it all."""
        self._cluster.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
