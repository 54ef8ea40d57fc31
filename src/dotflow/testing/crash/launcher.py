"""assert_survives_crashes: how a test starts a harness, and how the harness's interpreter begins."""

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

import cloudpickle  # type: ignore[import-untyped]

from dotflow.abc.storage import Storage
from dotflow.code.own_code import file_of
from dotflow.core.durations import Duration, as_seconds
from dotflow.core.failure import Failure
from dotflow.cpython import interpreter_flags
from dotflow.errors import InvalidArgument, ProcessesUnsupported
from dotflow.processes.channel import dump_whole
from dotflow.testing.crash.harness import Harness
from dotflow.testing.crash.trial import Pipeline, storage_parameter
from dotflow.testing.crash.verify import CrashReport, verify

CODE: Final = (
    "import sys, json; config = json.loads(sys.stdin.buffer.readline()); sys.path[:] = config['path']; "
    "from dotflow.testing.crash.launcher import main; main(config)"
)


def pack(pipeline: Pipeline) -> bytes:
    """Pickles a pipeline for another interpreter, by value what that can't import.

    Raises InvalidArgument for an argument that can't be pickled.
    """
    arguments = {"build_workflow": pipeline.build, "storage": pipeline.storage, "start_arguments": pipeline.arguments}
    names = {getattr(argument, "__module__", None) for argument in arguments.values()} - {"__main__"}
    with contextlib.ExitStack() as stack:
        for module in [sys.modules[name] for name in names if name in sys.modules and file_of(name) is None]:
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        for name, argument in arguments.items():
            try:
                dump_whole(argument)
            except Exception as error:  # pickling runs the value's own methods
                hint = "; pass a function that returns it" if name == "storage" else ""
                cause = f"this can't be ({type(error).__name__}: {error}){hint}"
                accepted = f"an object that can be sent to another process: {cause}"
                raise InvalidArgument(name, argument, accepted) from error
        return dump_whole(pipeline)


def launch_harness(pipeline: bytes, folder: Path, timeout: float) -> CrashReport:
    """Starts a harness, which verifies a packed pipeline; returns its report, or raises its AssertionError.

    Args:
        pipeline: The pipeline.
        folder: Where the harness writes.
        timeout: Seconds that a trial may take.
    """
    try:
        code = _run_harness(pipeline, folder, timeout)
        try:
            result: CrashReport | AssertionError = pickle.loads((folder / "result").read_bytes())
        except FileNotFoundError:
            output = (folder / "err").read_text("utf-8", "replace")
            raise AssertionError(f"The process that runs the workflow exited with {code}.\n{output}") from None
        if isinstance(result, AssertionError):
            raise result
        shutil.rmtree(folder / "last")  # no trial failed: they all printed the same
        return result
    finally:
        _forward_output(folder)


def _run_harness(pipeline: bytes, folder: Path, timeout: float) -> int:
    config = {
        "argv": [str(argument) for argument in sys.argv],
        "path": [entry or str(Path.cwd()) for entry in sys.path if isinstance(entry, str)],
        "folder": str(folder),
        "timeout": timeout,
        "parent": os.getpid(),
    }
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-u", *interpreter_flags(), "-c", CODE],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            process_group=0,
        )
    try:
        process.communicate(json.dumps(config).encode() + b"\n" + pipeline)
    finally:
        if process.returncode != 0:  # Ctrl-C, for example: a trial may run on
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode


def _forward_output(folder: Path) -> None:
    """Prints the output of the harness, of its first trial, and of the last one if that failed."""
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        for path in (folder / name, folder / "first" / name, folder / "last" / name):
            if path.exists() and stream is not None:
                with contextlib.suppress(OSError, ValueError):  # a closed stream
                    stream.write(path.read_text("utf-8", "replace"))


def main(config: dict[str, Any]) -> NoReturn:
    """Verifies the pipeline that stdin has, in a fresh interpreter."""
    sys.argv = config["argv"]
    folder = Path(config["folder"])
    result: CrashReport | AssertionError
    try:
        pipeline: Pipeline = pickle.loads(sys.stdin.buffer.read())
        _restore_module(pipeline.build)
    except BaseException as error:  # the user's modules are imported
        result = AssertionError(f"The workflow can't be loaded in another process.\n{Failure.of(error).traceback}")
    else:
        try:
            result = verify(Harness(pipeline, folder, config["timeout"], config["parent"]))
        except AssertionError as error:
            result = error
    (folder / "result").write_bytes(pickle.dumps(result))
    os._exit(0)


def _restore_module(function: Any) -> None:
    """Makes a function's module importable if it was pickled by value: a storage may save names of its classes."""
    name, names = getattr(function, "__module__", None), getattr(function, "__globals__", {})
    if isinstance(name, str) and (name == "__main__" or name not in sys.modules):
        module = sys.modules.setdefault(name, ModuleType(name))
        vars(module).update({key: value for key, value in names.items() if not key.startswith("__")})


def assert_survives_crashes(
    build_workflow: Callable[..., Any],
    storage: Storage | Callable[[], Storage] | None = None,
    *,
    patience: Duration = 60.0,
    **start_arguments: Any,
) -> CrashReport:
    """Verifies that a workflow loses nothing, whenever its process is killed.

    Runs the workflow in a process that kills itself with SIGKILL, and resumes it in another process. The kills come at
    every boundary of a step, and before, inside of and after every write of the storage, and of `atomic_path` in the
    process of the run. Of a mapped task, the first, second, middle and last items have kill points; of a durable step
    the first eight calls, the 16th, the 32nd and so on. Each time the result has to be that of an undisturbed run, also
    the content of each file that a path in it names, unless `files=False`. What a post() saved has to be found as it
    was, and what a delete() or clear() deleted must be gone. No step or item may run again whose checkpoint is found,
    unless the resume deletes that, since it no longer counts. No call of a durable step may be kept that an undisturbed
    run does not make: what its arguments depend on, such as a clock, has to be a call, too. Every task has to be
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
