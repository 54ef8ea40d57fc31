"""How a fresh interpreter becomes a harness: it takes what is to be proved, proves it, and says what came of it."""

import contextlib
import json
import os
import pickle
import resource
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from dotflow.core.failure import Failure
from dotflow.testing.crash.harness import Harness
from dotflow.testing.crash.launcher import HEARTBEAT
from dotflow.testing.crash.trial import Pipeline
from dotflow.testing.crash.verify import verify

OVER: Final = b"!"  # the last thing that it says


def main(config: dict[str, Any]) -> None:
    """Called by the interpreter, with what it is told on the first line of its stdin; what is to be proved follows.

    What came of it stands in the file `verdict` then: `report`, or `refuted` or `wrong` with why.
    """
    sys.argv = config["argv"]
    folder, heartbeat = Path(config["folder"]), config["heartbeat"]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # a round that is aborted leaves no core file

    def send_heartbeat() -> None:
        try:
            os.write(heartbeat, HEARTBEAT)
        except BrokenPipeError:  # nobody waits for the verdict any more
            os._exit(1)

    verdict: dict[str, Any]
    try:
        pipeline = _load(sys.stdin.buffer.read())
    except BaseException as error:  # somebody else's code: their modules are imported
        verdict = {"error": Failure.of(error).traceback}
    else:
        harness = Harness(pipeline, folder, config["timeout"], send_heartbeat, closed=(heartbeat,))
        try:
            report = verify(harness)
            verdict = {"report": {name: getattr(report, name) for name in type(report).__slots__}}
        except AssertionError as error:
            verdict = {"failure": str(error)}
    (folder / "verdict").write_text(json.dumps(verdict))
    with contextlib.suppress(BrokenPipeError):
        os.write(heartbeat, OVER)
    os._exit(0)


def _load(data: bytes) -> Pipeline:
    pipeline: Pipeline = pickle.loads(data)
    _restore_module(pipeline.build)
    return pipeline


def _restore_module(function: Any) -> None:
    """What travels by value is found by name again, in a module of its own: a storage may name a class like that."""
    name, names = getattr(function, "__module__", None), getattr(function, "__globals__", {})
    if not isinstance(name, str) or (name in sys.modules and name != "__main__"):
        return
    module = sys.modules.setdefault(name, ModuleType(name))
    vars(module).update({key: value for key, value in names.items() if not key.startswith("__")})
