"""What it costs that files are part of values: finding their paths, their states and digests, and whole files.

Everything happens in the temporary folder: a memory file system makes every sync free.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from measure import Row, best, cpu_of, fresh, fresh_contender, median, seconds_of
from workflows import completed

from dotflow import Config, DotFlow, action, atomic_path
from dotflow.codec.json import encode_bytes
from dotflow.providers import LogDefault, StorageFile
from dotflow.worker import files

WITHOUT = "files=False"
BY_HAND = "by hand: write, fsync, rename, fsync folder"
IN_FOLDER = "limit: the same in a folder with a lock, made and removed"


def rows(quick: bool) -> Iterator[Row]:
    """The budgets of files, one row each."""
    repeats = 3 if quick else 9
    for name in LINKS:
        found = fresh(measure_chain, name, 3_000, 3 * repeats)
        yield Row.beside(f"a chain of 3,000 steps, {name}", found, 1.02, WITHOUT)
    for name in VALUES:
        found = fresh(measure_search, name, repeats)
        yield Row.beside(f"looking for paths in {name}", found, 0.4, "encoding")
    found = fresh(measure_digest, 64_000_000, repeats)
    yield Row.beside("the state of a file of 64 MB", found, 1.1, "hashlib.file_digest")
    found = fresh(measure_states, 10_000, repeats)
    yield Row.beside("the states of 10,000 small files", found, 5, "opening them")
    with tempfile.TemporaryDirectory() as folder:
        fresh(make_files, folder, 3_000)
        contenders = {name: fresh_contender(measure_resume, name, folder, 3_000) for name in ("dotflow", WITHOUT)}
        found = best(contenders, 2 if quick else 7)
    yield Row.beside("resume, 3,000 steps with a file each", found, 1.1, WITHOUT)
    found = fresh(measure_atomic_path, 50 if quick else 200)
    yield Row.beside("atomic_path, a file of 1 kB", found, 1.4, BY_HAND)


def config(storage: StorageFile | None = None, *, has_files: bool) -> Config:
    return Config(storage=storage, log=LogDefault(output="none"), files=has_files)


def nothing(previous_context: Any) -> None: ...


def row(previous_context: Any) -> Any:
    return {"row": 1, "of": previous_context.task_id}


LINKS = {"no values": action(nothing), "a dict each": action(row)}


def measure_chain(name: str, count: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for all."""

    def run(*, has_files: bool) -> float:
        workflow = DotFlow(config(has_files=has_files))
        workflow.task.add([LINKS[name]] * count)
        return cpu_of(lambda: completed(workflow))

    contenders = {"dotflow": lambda: run(has_files=True), WITHOUT: lambda: run(has_files=False)}
    return best(contenders, repeats)


VALUES: dict[str, Callable[[], Any]] = {
    "10,000 dicts": lambda: [{"name": f"row {n}", "at": n, "rate": n / 7, "tags": ["a", "b"]} for n in range(10_000)],
    "a million floats": lambda: [number / 7 for number in range(1_000_000)],
}


def measure_search(name: str, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for one value."""
    value = VALUES[name]()
    contenders = {
        "dotflow": lambda: cpu_of(lambda: files.find_paths(value)),
        "encoding": lambda: cpu_of(lambda: encode_bytes(value)),
    }
    return best(contenders, repeats)


def measure_digest(size: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for one file, which is in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large")
        path.write_bytes(os.urandom(size))

        def state() -> object:
            files._digests.clear()
            return files.state_of(path, size)

        def digest() -> object:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        return best({"dotflow": lambda: cpu_of(state), "hashlib.file_digest": lambda: cpu_of(digest)}, repeats)


def measure_states(count: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for all, with their digests."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(number)) for number in range(count)]
        for path in paths:
            path.write_text(path.name)

        def states() -> None:
            files._digests.clear()
            for path in paths:
                files.state_of(path, 1_000)

        def opened() -> None:
            for path in paths:
                with open(path, "rb"):  # noqa: PTH123 (as fast as it gets)
                    pass

        return best({"dotflow": lambda: cpu_of(states), "opening them": lambda: cpu_of(opened)}, repeats)


@action
def make(previous_context: Any) -> Path:
    path = Path(f"{os.environ['BENCHMARK_FOLDER']}/{previous_context.task_id}.txt")
    path.write_text("made")
    return path


def made(folder: str, count: int, *, has_files: bool) -> DotFlow:
    os.environ["BENCHMARK_FOLDER"] = folder
    storage = StorageFile(path=f"{folder}/kept", durability="process")
    workflow = DotFlow(config(storage, has_files=has_files), workflow_id="files")
    workflow.task.add([make] * count)
    return workflow


def make_files(folder: str, count: int) -> None:
    completed(made(folder, count, has_files=True))


def measure_resume(contender: str, folder: str, count: int) -> float:
    """Seconds of CPU time for all."""
    import filelock

    assert filelock is not None  # imports are done before the clock runs
    workflow = made(folder, count, has_files=contender == "dotflow")
    return best({"": lambda: cpu_of(lambda: workflow.start(resume=True))}, 3)[""]


def measure_atomic_path(repeats: int) -> dict[str, float]:
    """Seconds for one file, which replaces an older one; in the middle, as the disk decides."""
    data = b"x" * 1_000
    with tempfile.TemporaryDirectory() as folder:
        target = f"{folder}/data"

        def ours() -> None:
            with atomic_path(target) as path, open(path, "wb") as file:  # noqa: PTH123 (as the others)
                file.write(data)

        def write(path: str) -> None:
            with open(path, "wb") as file:  # noqa: PTH123 (as it is written by hand)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path, target)  # noqa: PTH105

        def sync_folder() -> None:
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

        def by_hand() -> None:
            write(f"{target}.new")
            sync_folder()

        def in_folder() -> None:
            hidden = f"{folder}/.data.partial"
            os.mkdir(hidden, 0o700)  # noqa: PTH102
            lock = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write(f"{hidden}/data")
            os.rmdir(hidden)  # noqa: PTH106
            os.close(lock)
            sync_folder()

        contenders = {"dotflow": ours, BY_HAND: by_hand, IN_FOLDER: in_folder}
        return median({name: partial(seconds_of, work) for name, work in contenders.items()}, repeats)
