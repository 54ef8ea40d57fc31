"""@action(resources=...): what an attempt has of this machine, and no other one at the same time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.limits import Ended, Holder
from dotflow.cli.main import main
from dotflow.core.resources import Resources, as_offer, parse_offer
from dotflow.errors import HistoryError, InvalidArgument, InvalidPolicy, ResourcesNotOffered
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread, HistorySQLite
from dotflow.providers.histories.sqlite import places
from dotflow.providers.histories.sqlite.places import Places, PlacesFile, find_places
from dotflow.testing import virtual_clock

pytestmark = pytest.mark.processes

CARDS = {"gpu": ["0", "7"]}


@pytest.fixture(autouse=True)
def file_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's file is the test's own."""
    path = tmp_path / "machine" / "places.db"
    monkeypatch.setenv("DOTFLOW_PLACES", str(path))
    monkeypatch.delenv("DOTFLOW_RESOURCES", raising=False)
    return path


def overlaps(path: Path) -> list[str]:
    """Returns the ids that two attempts had at the same time, by a file of lines: id, beginning, end."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for line in path.read_text().splitlines():
        card, began, ended = line.split()
        spans.setdefault(card, []).append((float(began), float(ended)))
    return [
        card
        for card, of_card in spans.items()
        for one, following in zip(sorted(of_card), sorted(of_card)[1:], strict=False)
        if following[0] < one[1]
    ]


def training(path: Path, seconds: float = 0.02) -> Any:
    """Returns a step that notes when it had which card."""

    @action(resources={"GPU": 1})
    def train(item: int, resources: Any) -> list[Any]:
        began = time.monotonic()
        time.sleep(seconds)
        with path.open("a") as file:
            file.write(f"{resources.gpu[0]} {began} {time.monotonic()}\n")
        return [resources.gpu, os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()]

    return train


@pytest.mark.parametrize(
    ("mode", "executor"),
    [
        ("sequential", None),
        ("background", None),
        ("parallel", None),
        ("parallel", ExecutorThread()),
        ("parallel", ExecutorAsync()),
        ("parallel", ExecutorProcess(max_workers=3)),
    ],
)
def test_no_two_attempts_have_one_card(mode: Any, executor: Any, tmp_path: Path) -> None:
    """Each is told which one it has, and has a process of its own, where CUDA sees that one alone."""
    workflow = DotFlow(Config(resources=CARDS, executor=executor))
    workflow.task.add(training(tmp_path / "spans"), each={"item": list(range(6))})
    run = workflow.start(mode=mode)
    run.wait(60)

    values = [item.value for item in run.task("train").items]
    assert {card for (card,), _, _ in values} <= {"0", "7"}
    assert all(card == visible for (card,), visible, _ in values)
    assert len({pid for _, _, pid in values}) == 6
    assert overlaps(tmp_path / "spans") == []


def test_amounts_are_shared_and_need_no_process() -> None:
    """Two steps that fit in together run together; as `resources` a step takes what it has."""

    @action(resources={"memory": "40GB", "license": 1})
    def load(item: int, resources: Any) -> tuple[Any, ...]:
        return resources.memory, resources["license"], dict(resources), os.getpid() == main

    main = os.getpid()
    workflow = DotFlow(Config(resources={"memory": "64GB", "license": 2}))
    workflow.task.add(load, each={"item": [1, 2]})
    run = workflow.start()

    assert run.status == "Completed"
    assert run.task("load").items[1].value == (40e9, 1, {"memory": 40e9, "license": 1}, True)


def test_a_fallback_and_a_retry_have_their_own(tmp_path: Path) -> None:
    """What an attempt had is free again when it has ended, also when it has failed."""

    @action(resources={"gpu": 2}, retry=2, retry_delay=0)
    def large(resources: Any) -> None:
        raise ValueError(len(resources.gpu))

    @action(resources={"gpu": 1})
    def small(resources: Any) -> Any:
        return resources.gpu

    workflow = DotFlow(Config(resources=CARDS))
    workflow.task.add(large, fallback=small).add(small, name="after")
    run = workflow.start()

    assert [error.message for error in run.tasks[0].errors] == ["2", "2"]
    assert [task.value for task in run.tasks] == [("0",), ("0",)]


def test_what_limits_refuse_is_put_back() -> None:
    """A step that waits for its limit has no card meanwhile; so another one may begin."""
    with virtual_clock() as clock:

        @action(resources={"slots": 1}, limit="2/min")
        def limited(item: int) -> float:
            return (clock.now() - began).total_seconds()

        @action(resources={"slots": 1})
        def free(item: int) -> float:
            return (clock.now() - began).total_seconds()

        began = clock.now()
        workflow = DotFlow(Config(resources={"slots": ["0"]}, executor=ExecutorThread()))
        workflow.task.add(limited, each={"item": [1, 2, 3]}, group_name="a")
        workflow.task.add(free, each={"item": [1, 2, 3]}, group_name="b")
        run = workflow.start()

    assert [round(item.value) for item in run.task("limited").items] == [0, 0, 60]
    assert [round(item.value) for item in run.task("free").items] == [0, 0, 0]


JOBS = """
import os, sys, time
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite
sys.path.insert(0, os.getcwd())
from tests.integration.test_places import training

name, history, order, count = sys.argv[1:]
workflow = DotFlow(
    Config(history=HistorySQLite(history), resources={{"gpu": order.split(",")}}), workflow_id=name
)
workflow.task.add(training(Path({spans!r})), each={{"item": list(range(int(count)))}})
sys.exit(workflow.start(mode="parallel").status != "Completed")
"""


def start_jobs(tmp_path: Path, name: str, history: str, order: str, count: int) -> "subprocess.Popen[bytes]":
    code = JOBS.format(spans=str(tmp_path / "spans"))
    arguments = [sys.executable, "-c", code, name, str(tmp_path / history), order, str(count)]
    return subprocess.Popen(arguments, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])


def test_three_processes_with_two_histories_share_two_cards(tmp_path: Path) -> None:
    """Whatever order they offer them in, no card is had twice, and one process is killed meanwhile."""
    killed = start_jobs(tmp_path, "killed", "a.db", "0,1", 1000)
    others = [
        start_jobs(tmp_path, "second", "a.db", "1,0", 15),
        start_jobs(tmp_path, "third", "b.db", "0,1", 15),
    ]
    until = time.monotonic() + 60
    while not (tmp_path / "spans").exists() or len((tmp_path / "spans").read_text().splitlines()) < 6:
        assert time.monotonic() < until
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    assert [other.wait(120) for other in others] == [0, 0]
    assert overlaps(tmp_path / "spans") == []
    assert {line.split()[0] for line in (tmp_path / "spans").read_text().splitlines()} == {"0", "1"}


def asked(of: Places, attempt: str, needs: int = 1) -> tuple[str, ...] | None:
    verdict = of.ask(of.wanted({"gpu": needs}), Holder(attempt, "run", "task"))
    return verdict.ids["gpu"] if verdict.wait is None else None


def test_a_process_counts_within_its_own_offer(file_of_places: Path) -> None:
    """What anybody has is taken, and sums count against what this one offers itself."""
    first, second = (Places(PlacesFile(file_of_places), {"gpu": offered}) for offered in (("0", "1"), ("1", "2")))

    assert asked(first, "a", 2) == ("0", "1")
    assert asked(second, "b") is None  # two of two are had, by its own count
    first.end([Ended("a")])
    assert asked(first, "c") == ("0",)
    assert asked(second, "d") == ("1",)
    assert asked(second, "e") is None


def test_a_file_that_is_gone_is_written_again(file_of_places: Path) -> None:
    """Each process writes what it has at its next look, so nobody else gets it then."""
    first, second = (Places(PlacesFile(file_of_places), {"gpu": ("0", "1", "2")}) for _ in range(2))
    assert asked(first, "a") == ("0",)
    for path in file_of_places.parent.iterdir():
        path.unlink()

    assert asked(first, "b") == ("1",)
    assert asked(second, "c") == ("2",)


def test_who_has_what_is_listed(file_of_places: Path) -> None:
    """With who waits: see `dotflow limits`."""
    offer = {"gpu": ("0", "1"), "memory": 64e9}
    mine = Places(PlacesFile(file_of_places), offer)
    mine.ask(mine.wanted({"GPU": 1, "memory": 8e9}), Holder("a", "4c1e", "train"))

    found = {use.name: use for use in places.place_uses()}

    assert [(one.part.text, one.used) for one in found["gpu"].parts] == [("2 gpu at once", 1_000_000)]
    assert [one.part.text for one in found["memory"].parts] == ["64 GB memory at once"]
    assert [(one.run, one.task) for one in found["gpu"].held] == [("4c1e", "train")]


def test_more_than_there_is_is_refused_before_anything_runs() -> None:
    """It would wait for ever; and half a card has no id."""
    for needs, expected in (
        ({"gpu": 3}, "for 'step' at most what is offered here: 2 gpu"),
        ({"gpu": 0.5}, "for 'step' a whole number of gpu: each has an id"),
    ):
        workflow = DotFlow(Config(resources=CARDS))
        workflow.task.add(action(resources=needs)(lambda: 1), name="step")
        with pytest.raises(InvalidPolicy, match=r"at most|whole number") as refused:
            workflow.start()
        assert expected.split("'step'")[1] in str(refused.value)
    workflow = DotFlow(Config(resources=CARDS))
    workflow.task.add(action(resources={"license": 1})(lambda: 1))
    with pytest.raises(ResourcesNotOffered, match="this machine offers gpu"):
        workflow.start()


def test_a_folder_that_is_not_ours_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could write to it could take everything."""
    ours = tmp_path / "ours"
    ours.mkdir(0o700)
    for make, why in (
        (lambda path: path.mkdir(0o755), "is open to other users"),
        (lambda path: path.symlink_to(ours), "is no folder"),
        (lambda path: path.write_text(""), "is no folder"),
    ):
        folder = tmp_path / why.replace(" ", "-") / str(len(os.listdir(tmp_path)))  # noqa: PTH208
        folder.parent.mkdir(exist_ok=True)
        make(folder)
        with pytest.raises(HistoryError, match=f"{why}. Name a file: DOTFLOW_PLACES="):
            places.check_folder(folder)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(HistoryError, match="belongs to another user"):
        places.check_folder(ours)


@pytest.mark.parametrize(
    ("text", "offer"),
    [
        ("", {}),
        ("gpu=0,1 memory=64GB", {"gpu": ("0", "1"), "memory": 64e9}),
        ("GPU=2 slots=3", {"gpu": ("0", "1"), "slots": 3}),
        ("gpu=3,", {"gpu": ("3",)}),
        ("gpu=GPU-8f3a,MIG-1/2", {"gpu": ("GPU-8f3a", "MIG-1/2")}),
    ],
)
def test_an_offer_is_a_text(text: str, offer: dict[str, Any]) -> None:
    """As the environment variable and the command line have it."""
    assert parse_offer(text) == offer


@pytest.mark.parametrize("text", ["gpu", "gpu=", "gpu=0,0", "gpu=1 gpu=2", "=1", "a b=1", "memory=much", "memory=-1"])
def test_another_text_is_no_offer(text: str) -> None:
    """The error shows what is."""
    with pytest.raises(InvalidArgument, match=r"DOTFLOW_RESOURCES=.*gpu=0,1 memory=64GB"):
        parse_offer(text)


@pytest.mark.parametrize("value", [5, {"gpu": None}, {"": 1}, {"gpu": [1, 1]}, {"gpu": "x"}, {"a": 1, "A": 2}])
def test_another_value_is_no_offer(value: Any) -> None:
    """The error shows what is."""
    with pytest.raises(InvalidArgument, match="mapping of names to ids or amounts"):
        as_offer(value)


def test_the_variable_is_for_a_config_without_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read when a run starts."""
    monkeypatch.setenv("DOTFLOW_RESOURCES", "gpu=5,")

    @action(resources={"gpu": 1})
    def step(resources: Resources) -> Any:
        return resources.gpu

    workflow = DotFlow()
    workflow.task.add(step)

    assert workflow.start().value("step") == ("5",)


def test_what_waits_is_told(tmp_path: Path) -> None:
    """The history knows for how long an attempt has waited for its card."""
    history = HistorySQLite(tmp_path / "history.db")
    other = find_places({"gpu": ("0",)})
    assert asked(other, "other") == ("0",)

    @action(resources={"gpu": 1})
    def step() -> int:
        return 1

    workflow = DotFlow(Config(history=history, resources={"gpu": ["0"]}))
    workflow.task.add(step)
    run = workflow.start(mode="background")
    time.sleep(1.3)
    other.end([Ended("other")])
    run.wait(60)

    (attempt,) = history.load(run.run_id).steps[0].attempts
    assert attempt.waited is not None
    assert attempt.waited >= 1


def test_a_step_that_takes_them_may_have_other_arguments(tmp_path: Path) -> None:
    """They are no input: a value, a context and a run parameter are, and nothing of it is in the fingerprint."""

    @action
    def rows() -> list[int]:
        return [1, 2]

    @action(resources={"slots": 1})
    def count(rows: Sequence[int], previous_context: Context, resources: Any, factor: int = 3) -> Any:
        return len(rows) * factor, previous_context.storage, resources.slots

    workflow = DotFlow(Config(resources={"slots": 1}))
    workflow.task.add(rows).add(count)

    assert workflow.start().value("count") == (6, [1, 2], 1)


SERVED = """
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite

@action(resources={{"gpu": 1}})
def train(resources):
    print("has", *resources.gpu)

workflow = DotFlow(Config(history=HistorySQLite({history!r})), workflow_id="training")
workflow.task.add(train)
"""


def test_a_server_is_told_what_its_machine_offers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On its command line; what nobody could read is refused there."""
    history = str(tmp_path / "history.db")
    (tmp_path / "served_places.py").write_text(SERVED.format(history=history))
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["submit", "training", "--history", history]) == 0

    arguments = ["serve", "served_places:workflow", "--once"]
    assert main([*arguments, "--resources", "gpu"]) == 2
    assert "gpu=0,1 memory=64GB" in capfd.readouterr().err
    assert main([*arguments, "--resources", "gpu=4,5 memory=1GB"]) == 0

    assert "has 4" in capfd.readouterr().out


def test_the_command_lists_who_has_what(file_of_places: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Beside the limits of the history."""
    other = find_places({"gpu": ("0", "1")})
    assert asked(other, "other") == ("0",)

    assert main(["limits", "--history", str(file_of_places.with_name("history.db"))]) == 0
    assert "gpu (this machine)  1 of 2 gpu at once  run task" in capfd.readouterr().out
    assert main(["limits", "gpu", "--json", "--history", str(file_of_places.with_name("history.db"))]) == 0
    assert json.loads(capfd.readouterr().out)["is_place"] is True
    other.end([Ended("other")])
