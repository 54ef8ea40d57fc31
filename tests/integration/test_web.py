"""The web application of docs/how-to/web.md that serves its own runs, without a web server."""

import asyncio
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.asgi import request

APPLICATION = Path(__file__).parents[2] / "docs_src" / "web" / "application.py"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return runpy.run_path(str(APPLICATION))


def test_a_request_submits_a_run_which_the_application_serves(site: dict[str, Any]) -> None:
    """Before it serves, the run waits in the queue. After its end, no process serves the workflow."""
    control = site["control"]

    async def serve(run: str) -> None:
        async with site["serving"](site["application"]):
            await asyncio.to_thread(control.wait, run, timeout=60)

    posted = request(site["application"], "/reports/2026-11-25", method="POST")
    run = posted.json["id"]
    waits = request(site["application"], f"/reports/{run}").json
    asyncio.run(serve(run))

    assert posted.status == 202
    assert waits == {"state": "Queued", "finished": "0 of 0"}
    assert request(site["application"], f"/reports/{run}").json == {"state": "Completed", "finished": "2 of 2"}
    assert site["report"].value(run, "total") == 225
    assert not control.is_served("report")


def test_what_is_wrong_is_the_clients_to_mend(site: dict[str, Any]) -> None:
    """A day that is none, and the id of a run that is not there."""
    assert request(site["application"], "/reports/today", method="POST").status == 400
    assert request(site["application"], "/reports/nothing").status == 404
