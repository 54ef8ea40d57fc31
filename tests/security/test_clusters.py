"""A cluster runs the code of all who reach its scheduler. What closes it to others works with dotflow."""

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.engine.run import Run
from dotflow.errors import ClusterError
from dotflow.providers import ExecutorDask
from tests.clusters.dask import DaskProcesses
from tests.loopback import CERTIFICATE

pytestmark = [pytest.mark.clusters, pytest.mark.slow, pytest.mark.timeout(60)]


# Its name has no "dask", so make test-ray runs it, on the oldest Python: on 3.13, Dask itself loses TLS connections.
def test_a_cluster_with_tls_runs_only_the_steps_of_those_with_a_certificate() -> None:
    """With `security=` a run completes. Without it, the scheduler can't be reached, and nothing runs."""
    from distributed import Security

    file = str(CERTIFICATE)
    security = Security(require_encryption=True, tls_ca_file=file, tls_client_cert=file, tls_client_key=file)
    with DaskProcesses(workers=1, certificate=CERTIFICATE) as cluster:
        with pytest.raises(ClusterError, match="needs a certificate"):
            start(ExecutorDask(cluster.address, timeout=5))
        run = start(ExecutorDask(cluster.address, security=security))

    assert cluster.address.startswith("tls://")
    assert run.task("add_up").current_context.storage == 6


def start(executor: ExecutorDask) -> Run:
    @action  # here, so that it travels by value
    def add_up(initial_context: Context) -> int:
        return sum(initial_context.storage)

    workflow = DotFlow(Config(executor=executor))
    workflow.task.add(add_up, initial_context=[1, 2, 3])
    return workflow.start()
