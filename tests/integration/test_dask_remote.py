"""What of ExecutorDask runs on a worker, without the worker."""

from types import SimpleNamespace

import pytest

from dotflow.providers.executors.cluster.protocol import STOPPED, Pack, PackReply

PACKED = Pack("name", [], {}).pack()


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("state", ["cancelled", "released", "forgotten", None])
def test_a_task_that_was_released_never_begins(state: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that was cancelled on its way to a thread of the worker has no wakeup that could have been rung."""
    from dotflow.providers.executors.dask import remote as dask_remote  # imports Dask

    tasks = {} if state is None else {"key": SimpleNamespace(state=state, annotations=None)}
    worker = SimpleNamespace(
        state=SimpleNamespace(tasks=tasks), address="tcp://here", status=SimpleNamespace(name="running")
    )
    monkeypatch.setattr(dask_remote, "get_worker", lambda: worker)

    assert PackReply.unpack(dask_remote.run_remote_pack("run", "key", "name", PACKED, {})).kind == STOPPED
    assert dask_remote._wakeups == {}
