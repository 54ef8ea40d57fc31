"""The way from `start()` to a step: modules, functions and levels of dotflow that a run passes through.

    python benchmarks/hops.py          # the figures of a second run of two linked steps
    python benchmarks/hops.py --list   # each function, with its level and its number of calls

The second run counts, since the first also imports. The budget is 40 modules, 150 functions and 14 levels.
"""

import argparse
import collections
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import dotflow
from dotflow import Config, DotFlow, action
from dotflow.providers import LogDefault

SRC = str(Path(dotflow.__file__).parent)


@action
def extract() -> list[int]:
    return [1, 2, 3]


@action
def total(extract: list[int]) -> int:
    return sum(extract)


def workflow() -> DotFlow:
    flow = DotFlow(config=Config(log=LogDefault(output="none")))
    flow.task.add(step=[extract, total])
    return flow


class Profile:
    """Counts the functions of dotflow that are called, and the levels of the deepest call."""

    def __init__(self) -> None:
        self.calls: collections.Counter[CodeType] = collections.Counter()
        self.levels: dict[CodeType, int] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(SRC):
            return
        level = 0
        outer: FrameType | None = frame
        while outer is not None:
            level += outer.f_code.co_filename.startswith(SRC)
            outer = outer.f_back
        self.calls[frame.f_code] += 1
        self.levels[frame.f_code] = max(level, self.levels.get(frame.f_code, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="list each function")
    listed = parser.parse_args().list
    workflow().start()
    profile = Profile()
    flow = workflow()
    sys.setprofile(profile)
    try:
        flow.start()
    finally:
        sys.setprofile(None)
    if listed:
        for code, level in sorted(profile.levels.items(), key=lambda item: (item[0].co_filename, item[1])):
            place = code.co_filename.removeprefix(f"{SRC}/")
            print(f"{level:3} {profile.calls[code]:4} {place}:{code.co_firstlineno} {code.co_qualname}")
    modules = {code.co_filename for code in profile.levels}
    print(f"{len(modules)} modules, {len(profile.levels)} functions, {max(profile.levels.values())} levels")


if __name__ == "__main__":
    main()
