"""The way to a step: modules, functions and levels of dotflow that a run passes through.

    python benchmarks/hops.py          # a second run of two linked steps, and a claimed run up to its step
    python benchmarks/hops.py --list   # each function, with its level and its number of calls

The second run counts, since the first also imports. The budget of the first is 35 modules, 130 functions and 14 levels,
that of a claimed run, from the queue to the first line of its step, 60 modules and 300 functions.
"""

import argparse
import collections
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import dotflow
from dotflow import Config, DotFlow, action, serve
from dotflow.providers import HistorySQLite, LogDefault, StorageFile
from dotflow.serving.server import Server

SRC = str(Path(dotflow.__file__).parent)


@action
def extract() -> list[int]:
    if fifo := os.environ.get("HOPS_FIFO"):  # of a run that a server has claimed: its steps have a process of their own
        Path(fifo).write_text("begun")
    return [1, 2, 3]


@action
def total(extract: list[int]) -> int:
    return sum(extract)


def make_workflow(**config: Any) -> DotFlow:
    flow = DotFlow(config=Config(log=LogDefault(output="none"), **config), workflow_id="hops" if config else None)
    flow.task.add(step=[extract, total])
    return flow


class Profile:
    """Counts the functions of dotflow that are called, and the levels of the deepest call."""

    def __init__(self) -> None:
        self.calls: collections.Counter[CodeType] = collections.Counter()
        self.levels: dict[CodeType, int] = {}
        self.is_paused = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self.is_paused or event != "call" or not frame.f_code.co_filename.startswith(SRC):
            return
        level = 0
        outer: FrameType | None = frame
        while outer is not None:
            level += outer.f_code.co_filename.startswith(SRC)
            outer = outer.f_back
        self.calls[frame.f_code] += 1
        self.levels[frame.f_code] = max(level, self.levels.get(frame.f_code, 0))


def run(profile: Profile) -> None:
    """Runs the workflow a second time, to its end."""
    make_workflow().start()
    flow = make_workflow()
    sys.setprofile(profile)
    flow.start()
    sys.setprofile(None)


def claim(profile: Profile) -> None:
    """Submits the workflow to a server that runs and has run it before, to the first line of its step."""
    with tempfile.TemporaryDirectory() as folder:
        flow = make_workflow(history=HistorySQLite(Path(folder, "history.db")), storage=StorageFile(folder))
        flow.submit()
        serve(flow, once=True)
        os.mkfifo(fifo := Path(folder, "fifo"))
        os.environ["HOPS_FIFO"] = str(fifo)
        threading.setprofile(profile)
        profile.is_paused = True
        with Server([flow], options={}).start():
            profile.is_paused = False
            flow.submit()
            fifo.read_text()
            profile.is_paused = True
        threading.setprofile(None)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="list each function")
    listed = parser.parse_args().list
    for title, measure in {"a run": run, "a claimed run": claim}.items():
        profile = Profile()
        measure(profile)
        if listed:
            for code, level in sorted(profile.levels.items(), key=lambda item: (item[0].co_filename, item[1])):
                place = code.co_filename.removeprefix(f"{SRC}/")
                print(f"{level:3} {profile.calls[code]:4} {place}:{code.co_firstlineno} {code.co_qualname}")
        modules = {code.co_filename for code in profile.levels}
        print(
            f"{title}: {len(modules)} modules, {len(profile.levels)} functions, {max(profile.levels.values())} levels"
        )


if __name__ == "__main__":
    main()
