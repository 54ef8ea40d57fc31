"""A request starts a run, and another one asks how it stands: uvicorn application:application"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from threading import Lock

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from dotflow import Config, DotFlow, Run, action
from dotflow.errors import WorkflowBusy
from dotflow.providers import HistorySQLite, StorageFile

history = HistorySQLite(".output/history.db")


@action(retry=3, retry_delay="1s", timeout="30s")
def orders(day: date) -> list[int]:
    return [120, 80, day.day]


@action
def total(orders: list[int]) -> int:
    return sum(orders)


workflow = DotFlow(Config(storage=StorageFile(), history=history), workflow_id="report", params={"day": ...})
workflow.task.add([orders, total])


runs: dict[date, Run] = {}  # those that this process started
one_by_one = Lock()


def start(request: Request) -> JSONResponse:
    try:
        day = date.fromisoformat(request.path_params["day"])
    except ValueError as error:
        return JSONResponse({"error": str(error)}, 400)
    with one_by_one:
        try:
            if day in runs and not runs[day].wait(0):  # it has not ended
                return JSONResponse({"error": "busy"}, 409)
            runs[day] = workflow.start("background", resume="unfinished", params={"day": day})
        except WorkflowBusy:  # another process makes this report
            return JSONResponse({"error": "busy"}, 409)
    return JSONResponse({"state": "started"}, 202)


def show(request: Request) -> JSONResponse:
    found = history.runs(workflow=f"report@day={request.path_params['day']}", limit=1)
    return JSONResponse({"state": str(found[0].state), "error": found[0].error} if found else {"state": "not started"})


@asynccontextmanager
async def stop_runs(application: Starlette) -> AsyncIterator[None]:
    """Stops the active runs when the server stops. What has not finished, the next request for that day finishes."""
    yield
    for run in runs.values():
        run.cancel()
    for run in runs.values():
        run.wait()


application = Starlette(
    routes=[Route("/reports/{day}", start, methods=["POST"]), Route("/reports/{day}", show)],
    lifespan=stop_runs,
)
