"""The runs of a history behind the login of an application: uvicorn mounted:application"""

import os
import secrets
from base64 import b64encode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Scope

from dotflow.providers import HistorySQLite
from dotflow.ui import app


async def log_in(request: Request, call_next: RequestResponseEndpoint) -> Response:
    expected = b64encode(f"admin:{os.environ['RUNS_PASSWORD']}".encode())
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme != "Basic" or not secrets.compare_digest(given.encode(), expected):
        return Response("Log in first.", 401, {"WWW-Authenticate": "Basic"})
    request.state.user = "admin"
    return await call_next(request)


def may_write(scope: Scope) -> str | None:
    """Returns the name of a user who may cancel, resume and approve; None for one who may only read."""
    user: str | None = scope["state"].get("user")
    return user


application = Starlette(
    routes=[Mount("/history", app=app(HistorySQLite(".output/history.db"), write=may_write))],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=log_in)],
)
