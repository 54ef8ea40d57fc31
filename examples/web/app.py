"""A web application that has reports made: it answers at once, and any of its processes knows each run."""

from fastapi import FastAPI, HTTPException
from pipelines import report

from dotflow import Control
from dotflow.errors import NotInHistory, OrderRefused

app = FastAPI()
control = Control(report)


@app.post("/reports", status_code=202)
def create(customer: int, click: str | None = None) -> dict[str, str]:
    """The same click makes one report, however often the browser sends it."""
    try:
        return {"id": report.submit(params={"customer": customer}, key=click)}
    except OrderRefused as error:  # the click was for another customer
        raise HTTPException(409, str(error)) from None


@app.get("/reports/{run}")
def status(run: str) -> dict[str, str | bool]:
    try:
        found = control.run(run)
    except NotInHistory:
        raise HTTPException(404) from None
    return {"state": found.state, "is_over": found.is_over, "error": found.error}


@app.get("/reports/{run}/total")
def result(run: str) -> dict[str, int]:
    try:
        return {"total": report.value(run, "total")}
    except NotInHistory as error:
        raise HTTPException(404, str(error)) from None


@app.delete("/reports/{run}")
def cancel(run: str) -> dict[str, str]:
    try:
        return {"state": control.cancel(run, by="web").state}
    except NotInHistory:
        raise HTTPException(404) from None
    except OrderRefused as error:
        raise HTTPException(409, str(error)) from None
