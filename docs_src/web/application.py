"""One program that takes orders for reports and makes them: uvicorn application:application"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from dotflow import Config, Control, DotFlow, action, serve
from dotflow.errors import NotInHistory
from dotflow.providers import HistorySQLite, StorageFile

config = Config(storage=StorageFile(".output/values"), history=HistorySQLite(".output/history.db"))
report = DotFlow(config, workflow_id="report", params={"day": ...})
control = Control(report)


@action(retry=3, retry_delay="1s", timeout="30s")
def orders(day: date) -> list[int]:
    return [120, 80, day.day]


@action
def total(orders: list[int]) -> int:
    return sum(orders)


report.task.add([orders, total])


def create(request: Request) -> JSONResponse:
    try:
        day = date.fromisoformat(request.path_params["day"])
    except ValueError as error:
        return JSONResponse({"error": str(error)}, 400)
    return JSONResponse({"id": report.submit(params={"day": day})}, 202)


def show(request: Request) -> JSONResponse:
    try:
        run = control.run(request.path_params["run"])
    except NotInHistory:
        return JSONResponse({"error": "no such report"}, 404)
    return JSONResponse({"state": run.state, "finished": f"{run.completed} of {run.tasks}"})


@asynccontextmanager
async def serving(application: Starlette) -> AsyncIterator[None]:
    """Runs what is queued while the application lives. At its end, running steps end, and their runs are queued."""
    with serve(report, wait=False):
        yield


application = Starlette(
    routes=[Route("/reports/{day}", create, methods=["POST"]), Route("/reports/{run}", show)],
    lifespan=serving,
)
