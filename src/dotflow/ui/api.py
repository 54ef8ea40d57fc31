"""The JSON under `/api/`: what the page draws, and polls."""

import functools
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dotflow.abc.archive import Archive
from dotflow.core.failure import name_of
from dotflow.errors import DotflowError, HistoryError, InvalidArgument, NotInHistory
from dotflow.report.document import to_json
from dotflow.ui import queries

Find = Callable[[Archive, Mapping[str, str]], dict[str, Any]]

#: The path -> what it returns; /api/runs/{run} is another one.
PATHS: Final[Mapping[str, Find]] = {
    "/api/runs": queries.list_runs,
    "/api/runs/{run}/output": queries.show_output,
    "/api/workflow": queries.show_workflow,
    "/api/diff": queries.show_differences,
}
#: The error -> the status of the response, which has its words.
STATUSES: Final[Mapping[type[Exception], int]] = {
    NotInHistory: 404,
    InvalidArgument: 400,
    HistoryError: 503,
    Exception: 500,  # which the server logs, too
}

MADE: Final = "made"  # the only member that differs where nothing has changed


class Api:
    """The responses about a history.

    The tag of a response is the revision of the history and a digest of what it says. With the same revision, nothing
    is read; with the same digest, nothing is sent.

    Args:
        archive: The history.
        option: The value of --history in the commands on the page; None where they need none.
    """

    def __init__(self, archive: Archive, option: str | None) -> None:
        self._archive = archive
        self._paths: dict[str, Find] = {
            **PATHS,
            "/api/runs/{run}": functools.partial(queries.show_run, option=option),
        }
        self._nonce = secrets.token_hex(4)  # a revision counts for this process only

    def routes(self) -> list[Route]:
        """Returns the routes."""
        return [Route(path, self._endpoint(find)) for path, find in self._paths.items()]

    def handlers(self) -> Mapping[Any, Callable[[Request, Exception], Response]]:
        """Returns what answers an error, by its type."""

        def handle(request: Request, error: Exception) -> Response:
            status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
            text = str(error) if isinstance(error, DotflowError) else f"{name_of(type(error))}: {error}"
            return _json(to_json({"error": text}), status)

        return dict.fromkeys(STATUSES, handle)

    def _endpoint(self, find: Find) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:  # in a thread
            revision = self._archive.revision()  # before the runs are read, so that a change in between is seen
            known = request.headers.get("if-none-match", "")
            same = re.search(f'"{self._nonce}-{re.escape(revision or "")}-[0-9a-f]+"', known)
            if revision is not None and same:
                return Response(status_code=304, headers={"etag": same[0]})
            found = find(self._archive, {**request.query_params, **request.path_params})
            made = found.pop(MADE, None)
            text = to_json(found)
            digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
            tag = {"etag": f'"{self._nonce}-{revision}-{digest}"'}
            if f'-{digest}"' in known:
                return Response(status_code=304, headers=tag)
            return _json(text if made is None else text.replace("{", f'{{"{MADE}":"{made}",', 1), headers=tag)

        return respond


def _json(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, headers, media_type="application/json")
