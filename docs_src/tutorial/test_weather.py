from pathlib import Path

import pytest
from weather import HERE, Row, build_workflow, check, extract, load, summarise, total

from dotflow import DotFlow
from dotflow.providers import StorageFile
from dotflow.testing import assert_survives_crashes, virtual_clock


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_days_are_read() -> None:
    days = extract(HERE / "january.csv")

    assert len(days) == 14
    assert (days[0].weather, days[0].rain) == ("rain", 1.0)


def test_a_missing_day_is_refused() -> None:
    first, _, third, *_ = extract(HERE / "january.csv")

    with pytest.raises(ValueError, match="can't come after 2012-01-10"):
        check([first, third])


def test_rain_is_added_up() -> None:
    rows = summarise(extract(HERE / "january.csv"))

    assert rows == [Row("rain", 4, 10.1), Row("snow", 7, 68.5), Row("sun", 3, 0.0)]
    assert total([rows, rows]) == {"rain": 20.2, "snow": 137.0, "sun": 0.0}


def test_all_of_it() -> None:
    workflow = build_workflow()

    run = workflow.start()

    assert run.status == "Completed"
    assert Path("weather.db").exists()


def test_a_database_that_is_away_is_asked_six_times() -> None:
    Path("weather.db").mkdir()  # a folder, where the file should be
    workflow = DotFlow(params={"path": Path("january.csv"), "rows": []})
    workflow.task.add(load)

    with virtual_clock():  # the delays take no time
        run = workflow.start()

    assert run.status == "Failed"
    assert [error.exception for error in run.tasks[0].errors] == ["OperationalError"] * 6


def build_january() -> DotFlow:
    workflow = DotFlow()
    workflow.task.add(extract, each=[HERE / "january.csv"]).add(summarise, each=extract).add(total)
    return workflow


def test_no_crash_costs_a_finished_step(tmp_path: Path) -> None:
    assert_survives_crashes(build_january, StorageFile(path=tmp_path / "checkpoints"))
