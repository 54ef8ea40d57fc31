"""How a stage is started from the process of a test, and heard until its verdict."""

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import cloudpickle  # type: ignore[import-untyped]

from dotflow.core.action import Action
from dotflow.errors import InvalidArgument
from dotflow.processes.channel import Pickler
from dotflow.testing.crash.trial import Pipeline

CODE: Final = (
    "import sys, json; config = json.loads(sys.stdin.buffer.readline()); sys.path[:] = config['path']; "
    "from dotflow.testing.crash.harness_main import main; main(config)"
)
HEARTBEAT: Final = b"."  # what a stage says before each round
MARGIN: Final = 30.0  # seconds beyond a round's that the stage may need to end one that hangs, and to compare values


def pack(pipeline: Pipeline) -> bytes:
    """The pipeline, as it travels: by reference what can be imported there, by value what can't.

    Raises InvalidArgument where that can't be.
    """
    parts = {"build_workflow": pipeline.build, "storage": pipeline.storage, "start_arguments": pipeline.arguments}
    names = {getattr(part, "__module__", None) for part in parts.values()}
    by_value = {name for name in names if name in sys.modules and not _can_be_imported(name)}
    with contextlib.ExitStack() as left:
        for name in by_value - {"__main__"}:
            cloudpickle.register_pickle_by_value(sys.modules[name])
            left.callback(cloudpickle.unregister_pickle_by_value, sys.modules[name])
        for what, part in parts.items():
            try:
                _dump(part, by_value)
            except Exception as error:  # pickling runs the value's own methods
                hint = "; pass a function that makes it" if what == "storage" else ""
                wanted = f"sent to another process, and this can't be ({type(error).__name__}: {error}){hint}"
                raise InvalidArgument(what, part, wanted) from error
        return _dump(pipeline, by_value)


class _Pickler(Pickler):
    """Takes the actions of some more modules apart, those that can't be imported elsewhere."""

    def __init__(self, file: io.BytesIO, by_value: Collection[str]) -> None:
        super().__init__(file)
        self._by_value = by_value

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Action) and obj.__module__ in self._by_value:
            return obj.reduce_by_value()
        return super().reducer_override(obj)


def _dump(value: object, by_value: Collection[str]) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, by_value).dump(value)
        return file.getvalue()


def _can_be_imported(name: str) -> bool:
    """Whether another interpreter finds the module under this name; never the caller's `__main__`."""
    parent = name.rpartition(".")[0]
    if parent and not (parent in sys.modules and _can_be_imported(parent)):
        return False
    path = getattr(sys.modules[parent], "__path__", None) if parent else None
    return name != "__main__" and any(
        finder.find_spec(name, path) is not None for finder in sys.meta_path if hasattr(finder, "find_spec")
    )


def run_harness(data: bytes, folder: Path, timeout: float) -> dict[str, Any]:
    """Starts a stage, and waits for its verdict. What it and its rounds print lies in the folder then.

    Args:
        data: What is to be proved, packed.
        folder: Where the stage may write.
        timeout: Seconds that a round may take.
    """
    with _start_harness(data, folder, timeout) as (process, heartbeat):
        while True:
            ready, _, _ = select.select([heartbeat], [], [], timeout + MARGIN)
            if not ready:
                return {"failure": f"The process that runs the workflow was not heard of for {timeout + MARGIN:g} s."}
            if not os.read(heartbeat, 1 << 16).endswith(HEARTBEAT):  # its last word, or its end
                break
    try:
        verdict: dict[str, Any] = json.loads((folder / "verdict").read_text())
    except FileNotFoundError:
        return {"error": f"That process ended with {process.returncode}.\n{_text(folder / 'harness-err')}"}
    return verdict


@contextlib.contextmanager
def _start_harness(data: bytes, folder: Path, timeout: float) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    reading, writing = os.pipe()
    config = {
        "argv": [str(argument) for argument in sys.argv],
        "path": [entry or str(Path.cwd()) for entry in sys.path if isinstance(entry, str)],
        "folder": str(folder),
        "timeout": timeout,
        "heartbeat": writing,
    }
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    try:
        with (folder / "harness-out").open("wb") as out, (folder / "harness-err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, *flags, "-c", CODE],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                pass_fds=(writing,),
                process_group=0,
            )
        os.close(writing)
        writing = -1
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # how it ended is seen in other ways
                pipe.write(json.dumps(config).encode() + b"\n" + data)
            yield process, reading
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # a round that goes on is in its group
            process.wait()  # not before: until then nobody else can have the group's number
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def forward_output(folder: Path) -> None:
    """What the stage, its first round and the last one that went wrong have printed goes where prints go here."""
    for ending, stream in (("out", sys.stdout), ("err", sys.stderr)):
        for whose in ("harness", "first", "last"):
            text = _text(folder / f"{whose}-{ending}")
            if text and stream is not None:
                with contextlib.suppress(OSError, ValueError):  # a closed stream leaves nowhere to say it
                    stream.write(text)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
