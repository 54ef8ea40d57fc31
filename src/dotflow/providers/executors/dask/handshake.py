"""The checks at the beginning of a run on Dask."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.session import describe_error
from dotflow.providers.executors.cluster.versions import Versions, differences, make_describe
from dotflow.providers.executors.dask import remote as dask_remote

if TYPE_CHECKING:
    from distributed import Client

REPLY_TIMEOUT: Final = 10.0  # seconds

#: No command to paste: a package index may have another package of that name.
INSTALL_HINT: Final = "Install it there, in the same version as here and from the same place, with its extra [dask]."


def check_cluster(client: "Client", cluster: str, say: Callable[[str], object]) -> None:
    """Checks that the cluster can run the steps, and logs the versions that differ.

    Args:
        client: The client.
        cluster: The name of the cluster, for messages.
        say: Writes a line into the run's log.

    Raises:
        ClusterError: The cluster can't be used, or does not answer.
    """
    describe = make_describe("distributed")
    try:
        client.register_plugin(dask_remote.make_once_plugin())
        scheduler = wait_for(client, client.run_on_scheduler(describe, asynchronous=True), REPLY_TIMEOUT)
        workers = _workers(client, describe, say)
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:
        hint = f"It has to take plugins (distributed.scheduler.pickle) and to answer within {REPLY_TIMEOUT:g} s."
        raise ClusterError(cluster, f"can't be used: {describe_error(error)}", hint) from error
    here = describe()
    without = sorted(place for place, found in workers.items() if found["dotflow"] == "not installed")
    if without:
        raise ClusterError(cluster, f"has workers without dotflow: {', '.join(without)}", INSTALL_HINT)
    if scheduler["dotflow"] == "not installed":  # the scheduler doesn't need it
        scheduler = {**scheduler, "dotflow": here["dotflow"]}
    for sentence in differences(here, {"the scheduler": scheduler, **workers}):
        say(sentence)


def wait_for(client: "Client", asked: Any, seconds: float) -> Any:
    """Returns the result of a call that was made with asynchronous=True. Raises TimeoutError."""

    async def answer() -> Any:
        return await asyncio.wait_for(asked, seconds)

    return asyncio.run_coroutine_threadsafe(answer(), client.loop.asyncio_loop).result()


def _workers(
    client: "Client", describe: Callable[[], Versions], say: Callable[[str], object]
) -> Mapping[str, Versions]:
    try:
        found: Mapping[str, Versions] = wait_for(
            client, client.run(describe, on_error="ignore", asynchronous=True), REPLY_TIMEOUT
        )
    except TimeoutError:  # one worker that hangs must not stop the others
        say(f"Not all workers have answered within {REPLY_TIMEOUT:g} s: what is installed there is not known.")
        return {}
    return found
