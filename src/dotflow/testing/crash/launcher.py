"""How a test starts a harness, and how the harness's interpreter begins."""

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

import cloudpickle  # type: ignore[import-untyped]

from dotflow.core.failure import Failure
from dotflow.cpython import interpreter_flags
from dotflow.errors import InvalidArgument
from dotflow.processes.channel import dump_whole
from dotflow.testing.crash.harness import Harness
from dotflow.testing.crash.trial import Pipeline
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
        for module in [sys.modules[name] for name in names if name in sys.modules and not _is_importable(name)]:
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


def _is_importable(name: str) -> bool:
    """Returns whether another interpreter finds a module by its name."""
    parent = name.rpartition(".")[0]
    if parent and not (parent in sys.modules and _is_importable(parent)):
        return False
    path = getattr(sys.modules[parent], "__path__", None) if parent else None
    return any(finder.find_spec(name, path) is not None for finder in sys.meta_path if hasattr(finder, "find_spec"))


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
            verdict: CrashReport | AssertionError = pickle.loads((folder / "verdict").read_bytes())
        except FileNotFoundError:
            output = (folder / "err").read_text("utf-8", "replace")
            raise AssertionError(f"The process that runs the workflow exited with {code}.\n{output}") from None
        if isinstance(verdict, AssertionError):
            raise verdict
        shutil.rmtree(folder / "last")  # no trial failed: they all printed the same
        return verdict
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
    verdict: CrashReport | AssertionError
    try:
        pipeline: Pipeline = pickle.loads(sys.stdin.buffer.read())
        _restore_module(pipeline.build)
    except BaseException as error:  # the user's modules are imported
        verdict = AssertionError(f"The workflow can't be loaded in another process.\n{Failure.of(error).traceback}")
    else:
        try:
            verdict = verify(Harness(pipeline, folder, config["timeout"], config["parent"]))
        except AssertionError as error:
            verdict = error
    (folder / "verdict").write_bytes(pickle.dumps(verdict))
    os._exit(0)


def _restore_module(function: Any) -> None:
    """Makes a function's module importable if it was pickled by value: a storage may save names of its classes."""
    name, names = getattr(function, "__module__", None), getattr(function, "__globals__", {})
    if isinstance(name, str) and (name == "__main__" or name not in sys.modules):
        module = sys.modules.setdefault(name, ModuleType(name))
        vars(module).update({key: value for key, value in names.items() if not key.startswith("__")})
