"""The web application of docs/how-to/web.md, without a server."""

import asyncio
import runpy
from datetime import date
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from dotflow import action
from tests.asgi import request

APPLICATION = Path(__file__).parents[2] / "docs_src" / "web" / "application.py"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return runpy.run_path(str(APPLICATION))


def test_a_request_starts_a_run_and_another_one_shows_it(site: dict[str, Any]) -> None:
    """The first returns while the run goes on; meanwhile that day is busy, and another day is not."""
    begun, gate = Event(), Event()
    site["workflow"].task.add(action(lambda: begun.set() or gate.wait()))

    def post(day: str) -> int:
        return request(site["application"], f"/reports/{day}", method="POST").status

    def state(day: str) -> dict[str, str]:
        shown: dict[str, str] = request(site["application"], f"/reports/{day}").json
        return shown

    try:
        assert post("2026-11-25") == 202
        assert begun.wait(10)
        assert state("2026-11-25") == {"state": "Running", "error": ""}
        assert [post("2026-11-25"), post("2026-11-26"), post("today")] == [409, 202, 400]
    finally:
        gate.set()
    for run in site["runs"].values():
        run.wait()

    assert state("2026-11-25") == {"state": "Completed", "error": ""}
    assert state("2026-11-27") == {"state": "not started"}
    assert post("2026-11-25") == 202
    site["runs"][date(2026, 11, 25)].wait()


def test_a_server_that_stops_stops_its_runs(site: dict[str, Any]) -> None:
    """They end in order, and keep what is finished: the next request for that day runs the rest."""
    begun, once = Event(), []

    @action
    async def wait() -> None:
        begun.set()
        if not once:
            once.append("waits")
            await asyncio.Event().wait()

    async def serve() -> None:
        async with site["stop_runs"](site["application"]):
            await asyncio.to_thread(request, site["application"], "/reports/2026-11-25", method="POST")
            await asyncio.to_thread(begun.wait, 10)

    site["workflow"].task.add(wait)
    asyncio.run(serve())
    (stopped,) = site["runs"].values()
    request(site["application"], "/reports/2026-11-25", method="POST")
    (again,) = site["runs"].values()
    again.wait()

    assert [str(task.status) for task in stopped.tasks] == ["Completed", "Completed", "Failed"]
    assert again.status == "Completed"
    assert [task.restored_from for task in again.tasks] == ["checkpoint", "checkpoint", None]
