"""Looks for stale files and values in resumed runs. Run: python tests/files_fuzz.py --scenarios 1000

A scenario is a random workflow whose steps make, read, fill and delete files. It fails or is killed, its files and
inputs are edited in a random way, and it is resumed, several times. Each run is a process of its own, killed with
SIGKILL before or after a random write of its storage, or inside of a step. The last resume has to return what a new run
in another folder returns, with the same files, and a second one has to run nothing. What `plan` returns before a run
that nothing stops must be what the run does.

The one thing that may be stale is the price that the docs name: a file that was edited between a kill and the resume,
is not smaller, and is given to the task that was cut off. The log has to name it. A task that runs again is given a
file as it is now, so no task here reads a file that a later one fills.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from dotflow import Config, DotFlow, Task, action  # noqa: E402 (found through the path that was just set)
from dotflow.abc.storage import Storage  # noqa: E402
from dotflow.core.types.status import TypeStatus  # noqa: E402
from dotflow.providers import LogDefault, StorageDefault, StorageFile, StorageSQLite  # noqa: E402
from tests.plan_fuzz import ThreeMethods, check, killing  # noqa: E402
from tests.resume_fuzz import KilledStorage, KilledWithClear  # noqa: E402

MODES: Final = ("sequential", "sequential", "sequential", "parallel")
KINDS: Final = ("make", "make", "make", "read", "read", "fill", "fill", "split", "each", "tidy")
EDITS: Final = (
    *("touch", "same size", "longer", "shorter", "delete", "swap", "link", "time back", "old content", "copy"),
)
INPUTS: Final = ("in0.txt", "in1.txt")
STORAGES: Final[dict[str, Callable[[Path], Storage]]] = {
    "file": lambda folder: StorageFile(folder / "kept", durability="process"),
    "sqlite": lambda folder: StorageSQLite(folder / "kept.db", durability="process"),
    "three methods": lambda folder: ThreeMethods(StorageFile(folder / "kept", durability="process")),
}


@dataclass
class Node:
    """One task. It takes the value of a node, an input, or both."""

    number: int
    kind: str
    source: int | None = None
    param: str | None = None
    always: bool = False
    after: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the task."""
        return f"n{self.number}"


def note(name: str) -> None:
    """Notes that a step runs; then it fails or its process is killed, if that is wanted."""
    with Path("ran.txt").open("a") as file:
        file.write(f"{name}\n")


def stop(name: str) -> None:
    """Ends a step after what it has done, if that is wanted."""
    if Path("kill").exists() and Path("kill").read_text() == name:
        os.kill(os.getpid(), signal.SIGKILL)
    if Path("fail").exists() and Path("fail").read_text() == name:
        raise RuntimeError(name)


def text_of(value: Any) -> str:
    """The content of a value: that of its file, or its text."""
    if isinstance(value, list):
        return "".join(map(text_of, value))
    return value.read_text() if isinstance(value, Path) else str(value)


def step_of(node: Node) -> Any:
    """Makes the step of a node: all that it does follows from the contents that it is given."""
    name, kind = node.name, node.kind

    def work(*values: Any) -> Any:
        note(name)
        if kind == "make":
            target = Path(f"{name}.out")
            target.write_text(f"<{name} {''.join(map(text_of, values))}>")
            value: Any = target
        elif kind == "split":
            text = "".join(map(text_of, values))
            value = [Path(f"{name}-{index}.part") for index in range(3)]
            for index, path in enumerate(value):
                path.write_text(text[index::3])
        elif kind == "fill":
            (path,) = values
            text = path.read_text()
            if f"+{name}" not in text:
                path.write_text(f"{text}+{name}")
            value = path
        elif kind == "tidy":
            for value in values:
                for path in value if isinstance(value, list) else [value]:
                    path.unlink(missing_ok=True)
            value = None
        else:
            value = f"({name} {''.join(map(text_of, values))})"
        stop(name)
        return value

    def take(source: Any, param: Path) -> Any:
        return work(source, param)

    def take_source(source: Any) -> Any:
        return work(source)

    def take_param(param: Path) -> Any:
        return work(param)

    def take_item(source: Path) -> Any:
        note(f"{name}:{source.name}")
        target = source.with_suffix(f".{name}")
        target.write_text(f"<{source.read_text()}>")
        stop(name)
        return target

    if kind == "each":
        return action(take_item)
    if node.source is None:
        return action(take_param)
    return action(take_source if node.param is None else take)


class Scenario:
    """One random workflow, with its folder.

    Args:
        seed: Determines all of it.
        name: The storage.
        folder: Where its files are.
        figures: Counts what happened.
    """

    def __init__(self, seed: str, name: str, folder: Path, figures: Counter[str]) -> None:
        self.random = random.Random(seed)
        self.storage = name
        self.folder = folder
        self.figures = figures
        self.mode = self.random.choice(MODES)
        self.kind_of_id = self.random.random() < 0.5  # of paths: absolute inputs
        self.nodes: list[Node] = []
        self.old: dict[str, str] = {}  # contents that files have had
        self.was_killed = False
        self.edited: set[str] = set()  # since the last run that was not killed
        self.is_priced = False
        for name in INPUTS:
            (folder / name).write_text(f"{name} {self.random.randrange(10)}")
        for _ in range(self.random.randint(2, 7)):
            self.insert()

    def insert(self) -> None:
        """Adds a random node."""
        pick, number = self.random, len(self.nodes)
        kind = pick.choice(KINDS)
        tidied = {node.source for node in self.nodes if node.kind == "tidy"}
        ends = {node.source for node in self.nodes if node.kind == "fill"}  # the path has a newer value
        files = [node for node in self.nodes if node.kind in ("make", "fill") and node.number not in ends | tidied]
        files = [node for node in files if not self.roots_of_tidied() & {self.root(node)}]
        lists = [node for node in self.nodes if node.kind == "split" and node.number not in tidied]
        texts = [node for node in self.nodes if node.kind in ("read", "each")]
        node = Node(number, kind)
        if kind == "each":
            node = Node(number, "each", pick.choice(lists).number) if lists else Node(number, "read")
        elif kind in ("fill", "tidy"):
            users = {other.source for other in self.nodes}
            free = [other for other in files if kind == "tidy" or other.number not in users]
            node = Node(number, kind, pick.choice(free).number) if free else Node(number, "make")
            if node.kind == "tidy":
                node.always = pick.random() < 0.5
                users = [other.number for other in self.nodes if other.source is not None]
                node.after = [other for other in users if self.root(self.nodes[other]) == self.root(node)]
                node.after = [other for other in node.after if other != node.source]
        sources = [*files, *lists, *texts]
        if node.kind in ("make", "read", "split"):
            if sources and pick.random() < 0.8:
                node.source = pick.choice(sources).number
            if node.source is None or pick.random() < 0.3:
                node.param = pick.choice(INPUTS)[:3]
        self.nodes.append(node)

    def root(self, node: Node) -> int:
        """The node that makes the file of a node."""
        while node.kind in ("fill", "tidy") and node.source is not None:
            node = self.nodes[node.source]
        return node.number

    def roots_of_tidied(self) -> set[int]:
        """The nodes whose files another node deletes."""
        return {self.root(node) for node in self.nodes if node.kind == "tidy"}

    def build(self, storage: Storage) -> DotFlow:
        """Makes the workflow, for the folder of now."""
        log = LogDefault(output="file", path=str(Path("log.txt").absolute()))
        params = {name[:3]: Path(name).absolute() if self.kind_of_id else Path(name) for name in INPUTS}
        workflow = DotFlow(Config(storage=storage, log=log), workflow_id="w", params=params)
        for node in self.nodes:
            options: dict[str, Any] = {}
            if node.kind == "each":
                options["each"] = {"source": f"n{node.source}"}
            else:
                needs = {} if node.source is None else {"source": f"n{node.source}"}
                options["needs"] = needs or None
                if node.after:
                    options["after"] = [f"n{number}" for number in node.after]
            step = step_of(node)
            if node.param is not None:
                step = with_param(step, node.param)
            workflow.task.add(step, name=node.name, always=node.always, **options)
        return workflow

    # Runs

    def run(self, resume: Any, writes: float = float("inf"), after: bool = False) -> dict[str, Any] | None:
        """Plans a run and runs it, in another process and in the scenario's folder; None if it was killed."""
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(read)
                os.chdir(self.folder)
                inner = STORAGES[self.storage](self.folder)
                kind = KilledStorage if isinstance(inner, ThreeMethods) else KilledWithClear
                storage = killing(kind)(inner, writes)
                storage.after = after  # type: ignore[attr-defined]
                os.write(write, json.dumps(self.report(storage, resume)).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        _, status = os.waitpid(child, 0)
        assert text or os.WIFSIGNALED(status), "the run has crashed"
        self.edited_before, self.killed_before, self.was_killed = set(self.edited), self.was_killed, not text
        if text:
            self.edited.clear()
        self.remember()
        self.figures["killed" if not text else "ended"] += 1
        log = self.folder / "log.txt"
        wrong = self.pay(log.read_text() if log.exists() else "")  # of a run that was killed, too
        report: dict[str, Any] | None = json.loads(text) if text else None
        assert not wrong, wrong
        return report

    def report(self, storage: Storage, resume: Any) -> dict[str, Any]:
        """Runs the workflow in this process."""
        Path("ran.txt").unlink(missing_ok=True)
        Path("log.txt").unlink(missing_ok=True)
        workflow = self.build(storage)
        plan = workflow.plan(self.mode, resume)
        workflow.start(self.mode, resume=resume, keep_going=False)
        tasks = workflow.result_task()
        has_failed = any(task.status is TypeStatus.FAILED for task in tasks)
        wrong = ""
        if not has_failed:
            try:
                check(plan, tasks)
            except AssertionError as error:
                wrong = f"{error}\n{plan}"
        ran = Path("ran.txt").read_text().split() if Path("ran.txt").exists() else []
        log = Path("log.txt").read_text() if Path("log.txt").exists() else ""
        return {"wrong": wrong, "failed": has_failed, "ran": ran, "log": log, "end": self.end_of(tasks)}

    def end_of(self, tasks: list[Task]) -> dict[str, Any]:
        """The values and the files at the end of a run in the folder of now."""
        paths = sorted(path for path in Path().iterdir() if path.suffix not in ("", ".db", ".txt") and path.is_file())
        files = {path.name: path.read_text() for path in paths if not path.name.startswith(("kept", "."))}
        return {"values": {task.name: str(task.value) for task in tasks}, "files": files}

    def expected(self) -> dict[str, Any]:
        """The end of a new run with the inputs of now, in another folder."""
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    for name in INPUTS:
                        shutil.copy(self.folder / name, folder)
                    os.chdir(folder)
                    workflow = self.build(StorageDefault())
                    workflow.start()
                    os.write(write, json.dumps(self.end_of(workflow.result_task())).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            end: dict[str, Any] = json.loads(answer.read())
        os.waitpid(child, 0)
        return end

    # Edits

    def remember(self) -> None:
        """Keeps the contents of files, to put them back."""
        for path in self.files():
            if self.random.random() < 0.5:
                self.old[path.name] = path.read_text()

    def files(self) -> list[Path]:
        """The files of steps and inputs that are there."""
        kept = [path for path in self.folder.iterdir() if path.is_file() and path.name not in ("ran.txt", "log.txt")]
        return sorted(path for path in kept if path.suffix and not path.name.startswith("kept"))

    def edit(self) -> None:
        """Edits a file, or an input, as people and programs do between two runs."""
        pick, found = self.random, self.files()
        path, kind = pick.choice(found), pick.choice(EDITS)
        before = path.stat()
        text = path.read_text()
        other = text.replace(text[:1], chr(ord("A") + pick.randrange(26)), 1) if text else "?"
        self.figures[kind] += 1
        self.edited.add(path.name)
        if kind == "touch":
            path.touch()
        elif kind == "same size":
            path.write_text(other)
        elif kind == "longer":
            path.write_text(f"{text}~")
        elif kind == "shorter":
            path.write_text(text[:-2])
        elif kind == "delete":
            if path.name not in INPUTS or pick.random() < 0.3:
                self.old.setdefault(path.name, text)
                path.unlink()
        elif kind == "swap":
            second = pick.choice(found)
            self.edited.add(second.name)
            if second != path:
                path.replace(self.folder / "swapped")
                second.replace(path)
                (self.folder / "swapped").replace(second)
        elif kind == "link":
            target = self.folder / f"linked{pick.randrange(1000)}"
            target.write_text(text if pick.random() < 0.5 else other)
            path.unlink()
            path.symlink_to(target)
        elif kind == "time back":
            path.write_text(other)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif kind == "old content":
            if path.name in self.old:
                path.write_text(self.old[path.name])
        else:
            copied = self.folder / "copied"
            shutil.copy(path, copied)
            copied.replace(path)

    def put_back_inputs(self) -> None:
        """Without its inputs no new run could be compared."""
        for name in INPUTS:
            if not (self.folder / name).exists():
                self.edited.add(name)
                (self.folder / name).write_text(self.old.get(name, "new") if self.random.random() < 0.7 else "new")

    # The check

    def check(self) -> str:
        """Runs, kills, fails, edits and resumes the workflow; returns what is wrong."""
        pick = self.random
        resume: Any = False
        for _ in range(pick.randint(1, 4)):
            how = pick.choice(["kill at a write", "kill in a step", "fail", "complete"])
            if how == "kill in a step" and self.mode != "sequential":
                how = "kill at a write"
            writes = pick.randrange(12) if how == "kill at a write" else float("inf")
            for word in ("kill in a step", "fail"):
                (self.folder / word.split()[0]).write_text(pick.choice(self.nodes).name if how == word else "")
            self.put_back_inputs()
            report = self.run(resume, writes, pick.random() < 0.5)
            for word in ("kill", "fail"):
                (self.folder / word).unlink()
            if report is not None and (wrong := self.judge(report)):
                return wrong
            resume = pick.choice([True, True, True, "changed"])
            if pick.random() < 0.8:
                for _ in range(pick.randint(1, 3)):
                    self.edit()
        self.put_back_inputs()
        report = self.run(resume)
        assert report is not None
        if wrong := self.judge(report):
            return wrong
        if report["failed"]:
            return "" if self.is_priced else f"the last run failed: {report['log']}"
        if not self.is_priced:
            expected = self.expected()
            if expected != report["end"]:
                return f"stale: expected {expected}, came {report['end']}\n{report['log']}"
            self.figures["compared"] += 1
        again = self.run(True)
        assert again is not None
        cleanups = {node.name for node in self.nodes if node.always}
        if set(again["ran"]) - cleanups:
            return f"a second resume ran {again['ran']}:\n{report['log']}\n{again['log']}"
        if again["wrong"]:
            return str(again["wrong"])
        return ""

    def pay(self, log: str) -> str:
        """Notes whether a run has paid the price; returns what is wrong about it."""
        line = next((line for line in log.splitlines() if "these files have changed since: " in line), "")
        if line:
            names = line.partition("since: ")[2].partition(". They")[0].split(", ")
            self.figures["accepted"] += 1
            if not self.killed_before:
                return f"accepted without a kill: {line}"
            if {Path(name).name for name in names} & self.edited_before:
                self.is_priced = True
                self.figures["priced"] += 1
        return ""

    def judge(self, report: dict[str, Any]) -> str:
        """Returns where the plan differs from the run."""
        if not report["failed"]:
            self.figures["planned"] += 1
        return str(report["wrong"])


def with_param(step: Any, name: str) -> Any:
    """The step, with a parameter of another name."""
    function = step.function

    if function.__code__.co_varnames[:1] == ("param",):
        scope: dict[str, Any] = {}
        exec(f"def take_{name}({name}):\n    return function({name})", {"function": function}, scope)
    else:
        scope = {}
        exec(f"def take_{name}(source, {name}):\n    return function(source, {name})", {"function": function}, scope)
    return action(scope[f"take_{name}"])


def compare(seed: int, figures: Counter[str]) -> str:
    """Returns what is wrong in one scenario."""
    name = list(STORAGES)[seed % len(STORAGES)]
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(f"files {seed}", name, Path(folder), figures)
        try:
            wrong = scenario.check()
        except AssertionError as error:
            wrong = str(error)
    nodes = "\n".join(map(repr, scenario.nodes))
    return f"seed {seed}, {name}, {scenario.mode}: {wrong}\n{nodes}\n" if wrong else ""


def scenarios(first: int, count: int, figures: Counter[str]) -> Iterator[str]:
    """Yields what is wrong in scenarios."""
    for seed in range(first, first + count):
        if wrong := compare(seed, figures):
            yield wrong


def main() -> int:
    """Prints what is wrong; returns 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    began, wrong, figures = time.monotonic(), 0, Counter[str]()
    for found in scenarios(chosen.first, chosen.scenarios, figures):
        wrong += 1
        print(found, flush=True)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(figures.items()))
    print(f"{chosen.scenarios} scenarios, {wrong} wrong, {time.monotonic() - began:.0f} s: {counts}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
