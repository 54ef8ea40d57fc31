"""gcp-storage-emulator with what a lease needs and the emulator lacks.

It ignores `ifGenerationMatch`, sends neither generation nor time of a download, and lists without pages. It also writes
all objects to disk after each request. The routes, the uploads in parts, the batches and the objects are its own.
"""

import json
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import HTTPServer
from typing import Any

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.storage import Storage
from process import print_port_and_end_with_parent

PAGE = 20  # objects; the service has up to 1,000 on a page, and may have fewer


class Memory(Storage):
    """Writes nothing down."""

    def _write_config_to_file(self) -> None:
        pass


def generation_of(storage: Storage, bucket: str, name: str) -> str:
    """The generation that is live; 0 if none is: cloud.google.com/storage/docs/request-preconditions."""
    try:
        return str(storage.get_file_obj(bucket, name)["generation"])
    except NotFound:
        return "0"


def fail(response: Any, status: HTTPStatus, message: str) -> None:
    response.status = status
    response.json({"error": {"code": int(status), "message": message, "errors": [{"message": message}]}})


def insert(request: Any, response: Any, storage: Storage, *more: Any) -> None:
    """Uploads, unless there is another generation than the one meant."""
    bucket = request.params["bucket_name"]
    if storage.get_bucket(bucket) is None:
        fail(response, HTTPStatus.NOT_FOUND, "The specified bucket does not exist.")
        return
    wanted = request.query.get("ifGenerationMatch")
    if wanted and wanted[0] != generation_of(storage, bucket, request.data["meta"]["name"]):
        fail(response, HTTPStatus.PRECONDITION_FAILED, "At least one of the pre-conditions you specified did not hold.")
        return
    objects.insert(request, response, storage, *more)


def get(request: Any, response: Any, storage: Storage, *more: Any) -> None:
    """Adds the headers that the service sends with a download."""
    objects.get(request, response, storage, *more)
    bucket, name = request.params["bucket_name"], request.params["object_id"]
    if response.status == HTTPStatus.NOT_FOUND:
        fail(response, HTTPStatus.NOT_FOUND, f"No such object: {bucket}/{name}")
    elif request.query.get("alt") == ["media"]:
        generation = generation_of(storage, bucket, name)
        response["x-goog-generation"] = generation
        response["last-modified"] = formatdate(int(generation) // 10**9, usegmt=True)


def ls(request: Any, response: Any, storage: Storage, *more: Any) -> None:
    """Lists in order and by small pages: cloud.google.com/storage/docs/json_api/v1/objects/list."""
    objects.ls(request, response, storage, *more)
    if response.status == HTTPStatus.NOT_FOUND:
        fail(response, HTTPStatus.NOT_FOUND, "The specified bucket does not exist.")
        return
    found = json.loads(response._content)
    items = sorted(found["items"], key=lambda item: str(item["name"]))
    start = int(request.query.get("pageToken", ["0"])[0])
    end = start + min(PAGE, int(request.query.get("maxResults", [PAGE])[0]))
    found["items"] = items[start:end]
    if end < len(items):
        found["nextPageToken"] = str(end)
    response.json(found)


INSTEAD = {objects.insert: insert, objects.get: get, objects.ls: ls}


def main() -> None:
    """Serves until stdin is closed, one request at a time."""
    server.HANDLERS = tuple(
        (route, {method: INSTEAD.get(handler, handler) for method, handler in methods.items()})
        for route, methods in server.HANDLERS
    )
    http = HTTPServer(("127.0.0.1", 0), partial(server.RequestHandler, Memory(use_memory_fs=True)))
    print_port_and_end_with_parent(http.server_port)
    http.serve_forever()


if __name__ == "__main__":
    main()
