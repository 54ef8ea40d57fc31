"""assert_survives_crashes: a workflow is killed and resumed at every moment that matters."""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dotflow.abc.storage import Storage
from dotflow.core.durations import Duration, as_seconds
from dotflow.errors import InvalidArgument, ProcessesUnsupported
from dotflow.testing.crash.report import CrashReport
from dotflow.testing.crash.trial import Pipeline, storage_parameter


def assert_survives_crashes(
    build_workflow: Callable[..., Any],
    storage: Storage | Callable[[], Storage] | None = None,
    *,
    patience: Duration = 60.0,
    **start_arguments: Any,
) -> CrashReport:
    """Proves that a workflow loses nothing, whenever its process is killed.

    It is run in a process that kills itself with SIGKILL, at every boundary of a step and before, in the middle of and
    after everything that the storage writes, and each time it is resumed in another process: the result has to be that
    of an undisturbed run, every task COMPLETED, and no step whose checkpoint was written may have run again.

        def test_nightly_survives_crashes(tmp_path):
            assert_survives_crashes(build_nightly, StorageFile(tmp_path))

    The steps really run, dozens of times, and so does everything else in the workflow's Config: give it fakes where
    that would matter. Only a LogDefault is silenced. What the steps print is passed on once, and once more for the run
    that went wrong. What only a power cut would undo can't be seen like this.

    Args:
        build_workflow: Returns a new DotFlow at each call. If it has a parameter `storage`, or one without a default,
            that is given the storage; otherwise the storage is put into the workflow's Config. It is called in other
            processes: what it changes here is not seen there. A workflow without an id of its own is given one for all
            runs.
        storage: A storage, or a function that makes one; the workflow's own unless given.
        patience: How long one run may take, in seconds or as a text such as "2m"; then it hangs.
        **start_arguments: Those of `start`, except `resume`.

    Returns:
        How often it was killed and resumed.

    Raises:
        AssertionError: Something is not as promised: what, and where the process was killed.
        InvalidArgument: An argument means nothing, or can't be sent to another process.
        ProcessesUnsupported: This system can't fork.
    """
    if not hasattr(os, "fork"):
        error = ProcessesUnsupported(sys.platform)
        error.add_note("assert_survives_crashes() forks a process for every crash and every resume.")
        raise error
    from dotflow.testing.crash import launcher  # here, since it needs a POSIX system

    _check(build_workflow, storage, start_arguments)
    seconds = as_seconds("patience", patience, above=0)
    data = launcher.pack(Pipeline(build=build_workflow, storage=storage, arguments=start_arguments))
    with tempfile.TemporaryDirectory(prefix="dotflow-crashes-", ignore_cleanup_errors=True) as folder:
        try:
            verdict = launcher.run_harness(data, Path(folder), seconds)
        finally:
            launcher.forward_output(Path(folder))
    if "report" in verdict:
        return CrashReport(**verdict["report"])
    if "failure" in verdict:
        raise AssertionError(verdict["failure"])
    raise AssertionError(f"The workflow could not be taken to another process, to be run there.\n{verdict['error']}")


def _check(build_workflow: object, storage: object, start_arguments: Mapping[str, Any]) -> None:
    if not callable(build_workflow):
        raise InvalidArgument("build_workflow", build_workflow, "a function that returns a DotFlow")
    if storage is not None and not isinstance(storage, Storage) and not callable(storage):
        raise InvalidArgument("storage", storage, "a Storage, or a function that returns one")
    parameter = storage_parameter(build_workflow)
    if storage is None and parameter is not None and parameter.default is parameter.empty:
        accepted = (
            f"what build_workflow asks for by its parameter {parameter.name!r}: a Storage, or what makes one. "
            "If that is for something else, wrap it: lambda: build_workflow(...)"
        )
        raise InvalidArgument("storage", storage, accepted)
    if "resume" in start_arguments:
        raise InvalidArgument("resume", start_arguments["resume"], "nothing to choose here: both are done")
