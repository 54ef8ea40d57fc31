"""assert_survives_crashes: a workflow is killed and resumed at every point that matters."""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dotflow.abc.storage import Storage
from dotflow.core.durations import Duration, as_seconds
from dotflow.errors import InvalidArgument, ProcessesUnsupported
from dotflow.testing.crash.launcher import launch_harness, pack
from dotflow.testing.crash.trial import Pipeline, storage_parameter
from dotflow.testing.crash.verify import CrashReport


def assert_survives_crashes(
    build_workflow: Callable[..., Any],
    storage: Storage | Callable[[], Storage] | None = None,
    *,
    patience: Duration = 60.0,
    **start_arguments: Any,
) -> CrashReport:
    """Verifies that a workflow loses nothing, whenever its process is killed.

    Runs the workflow in a process that kills itself with SIGKILL, and resumes it in another process. The kills come at
    every boundary of a step, and before, inside of and after every write of the storage. Of a mapped task, the first,
    second, middle and last items have kill points. Each time the result has to be that of an undisturbed run. What a
    post() saved has to be found as it was, and what a delete() or clear() deleted must be gone. No step or item may run
    again whose checkpoint is found, unless the resume deletes that, since it no longer counts. Every task has to be
    COMPLETED or SKIPPED; with keep_going it may also fail, each time in the same way. The runs that are killed make
    cached values anew; their resumes use them.

        def test_nightly_survives_crashes(tmp_path):
            assert_survives_crashes(build_nightly, StorageFile(tmp_path))

    The steps really run, dozens of times, and so does everything else in the workflow's Config: use fakes where that
    matters. Only a LogDefault is silenced. The steps' output is printed once, and that of a run that failed. Inside of
    a write, the kills come before the I/O calls of the thread that writes. The loss of unsynced data in a power cut is
    not simulated.

    Args:
        build_workflow: Returns a new DotFlow at each call. Its parameter `storage`, or the first one without a default,
            takes the storage; without such a parameter the storage is put into the workflow's Config. It runs in other
            processes, so its changes are not seen in this one. A workflow without an id gets one for all runs.
        storage: A storage, or a function that returns one; the workflow's own unless given.
        patience: How long one run may take, in seconds or as a text such as "2m"; a longer one hangs.
        **start_arguments: Those of `start`, except `resume`.

    Returns:
        How often it was killed and resumed.

    Raises:
        AssertionError: A promise is broken: which one, and where the process was killed.
        InvalidArgument: An argument is of the wrong kind, or can't be sent to another process.
        ProcessesUnsupported: This system can't fork.
    """
    if not hasattr(os, "fork"):
        error = ProcessesUnsupported(sys.platform)
        error.add_note("assert_survives_crashes() forks a process for every crash and every resume.")
        raise error
    _check(build_workflow, storage, start_arguments)
    timeout = as_seconds("patience", patience, above=0)
    pipeline = pack(Pipeline(build=build_workflow, storage=storage, arguments=start_arguments))
    with tempfile.TemporaryDirectory(prefix="dotflow-crashes-", ignore_cleanup_errors=True) as folder:
        return launch_harness(pipeline, Path(folder), timeout)


def _check(build_workflow: object, storage: object, start_arguments: Mapping[str, Any]) -> None:
    if not callable(build_workflow):
        raise InvalidArgument("build_workflow", build_workflow, "a function that returns a DotFlow")
    if storage is not None and not isinstance(storage, Storage) and not callable(storage):
        raise InvalidArgument("storage", storage, "a Storage, or a function that returns one")
    parameter = storage_parameter(build_workflow)
    if storage is None and parameter is not None and parameter.default is parameter.empty:
        accepted = (
            f"a Storage, or a function that returns one, for build_workflow's parameter {parameter.name!r}. "
            "If the parameter is for something else, wrap the function: lambda: build_workflow(...)"
        )
        raise InvalidArgument("storage", storage, accepted)
    if "resume" in start_arguments:
        raise InvalidArgument("resume", start_arguments["resume"], "no resume: assert_survives_crashes() chooses it")
