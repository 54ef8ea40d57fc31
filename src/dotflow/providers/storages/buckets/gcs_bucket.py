"""A bucket of Google Cloud Storage, asked through Google's library."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from dotflow.errors import StorageError
from dotflow.providers.optional import PerProcess
from dotflow.providers.storages.buckets.bucket import JSON, Bucket, Found, age
from dotflow.providers.storages.buckets.gcs_errors import explained

T = TypeVar("T")

TIMEOUT: Final = (5.0, 20.0)  # seconds to reach the service, and in which it has to say something
PATIENCE: Final = 30.0  # seconds that one call may take, repeated where Google's library says that it is worth it
BATCH: Final = 100  # calls in one request: cloud.google.com/storage/docs/batch

NOT_FOUND: Final = 404
CHANGED: Final = 412  # it is no longer what it was: cloud.google.com/storage/docs/request-preconditions


class GCSBucket(Bucket):
    """A bucket, as Bucket says.

    Args:
        name: The bucket.
        project: The project that requests belong to, if any.
    """

    def __init__(self, name: str, project: str | None) -> None:
        self.name = name
        self.where = f"gs://{name}"
        self._project = project
        self._late: PerProcess[Any] = PerProcess()
        self._is_there = False
        self._limit: float | None = None

    @property
    def endpoint(self) -> str:
        return str(self._ask(lambda client: client.api_endpoint))

    def brief(self, seconds: float) -> Self:
        """As Bucket says, by the same client."""
        brief = copy.copy(self)
        brief._limit = seconds
        return brief

    def get(self, name: str) -> Found | None:
        answer = self._read(name)
        if answer is None:
            return None
        return Found(
            answer.content,
            answer.headers.get("x-goog-generation", ""),
            age(answer.headers.get("date"), answer.headers.get("last-modified")),
        )

    def has(self, name: str) -> bool:
        return self._ask(lambda client: bool(self._blob(client, name).exists(**self._patience())))

    def put(self, name: str, data: bytes, media: str = JSON) -> None:
        """As Bucket says. To repeat it is harmless, since only the holder of a workflow puts its values."""
        self._ask(lambda client: self._upload(client, name, data, media))

    def put_over(self, name: str, data: bytes, version: str | None) -> str | None:
        condition = {"if_generation_match": int(version or 0)}
        return self._ask(lambda client: self._upload(client, name, data, JSON, **condition), none_for=CHANGED)

    def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), BATCH):
            some = names[start : start + BATCH]
            if len(some) == 1 or self._ask(partial(self._delete_all, names=some), NOT_FOUND) is None:
                for name in some:  # one of them is gone: each for itself, since the answer is but one
                    self._ask(partial(self._delete, name=name), NOT_FOUND)

    def names(self, prefix: str) -> Iterator[str]:
        fields = "items(name),nextPageToken"
        pages = self._ask(
            lambda client: iter(client.list_blobs(self.name, prefix=prefix, fields=fields, **self._patience()).pages)
        )
        while (page := self._ask(lambda client: next(pages, None))) is not None:
            yield from [blob.name for blob in page]

    def _read(self, name: str) -> Any:
        """The answer to a request for an object; None if there is none.

        The library's own download doesn't tell of generation and age, so that it would take three requests instead.
        """

        def ask(client: Any) -> Any:
            from google.api_core.exceptions import from_http_response

            url = f"{client.api_endpoint}/storage/v1/b/{quote(self.name, safe='')}/o/{quote(name, safe='')}?alt=media"
            answer = client._http.get(url, timeout=self._patience()["timeout"])
            if answer.status_code >= 300:
                raise from_http_response(answer)
            return answer

        answer = self._ask(lambda client: self._repeated(ask)(client), NOT_FOUND)
        if answer is None and not self._is_there:  # a bucket that is missing has no objects either
            self._ask(lambda client: list(client.list_blobs(self.name, max_results=1, **self._patience())))
        self._is_there = True
        return answer

    def _upload(self, client: Any, name: str, data: bytes, media: str, **condition: int) -> str:
        blob = self._blob(client, name)
        blob.cache_control = "no-store"  # where everybody may read, the service would answer from a cache otherwise
        blob.upload_from_string(data, content_type=media, checksum="crc32c", **self._patience(), **condition)
        return str(blob.generation)

    def _delete_all(self, client: Any, names: Sequence[str]) -> bool:
        def ask() -> bool:
            with client.batch():
                for name in names:
                    self._delete(client, name)
            return True

        return bool(self._repeated(ask)())

    def _delete(self, client: Any, name: str) -> bool:
        self._blob(client, name).delete(**self._patience())
        return True

    def _blob(self, client: Any, name: str) -> Any:
        return client.bucket(self.name).blob(name)

    def _ask(self, ask: Callable[[Any], T], none_for: int = 0) -> T:
        """What the service answers; None for an error of this status. Raises StorageError."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        told: StorageError
        try:
            return ask(self._late.get(self._make))
        except (GoogleAPIError, GoogleAuthError, RequestException, ValueError, OSError) as error:
            # ValueError, OSError: an endpoint that is none, a file of credentials that can't be read
            if none_for and getattr(error, "code", None) == none_for:
                return None  # type: ignore[return-value]
            told = explained(error, self.where)
        raise told  # not from there: what the library has at hand when it fails is nobody else's business

    def _make(self) -> Any:
        from google.cloud import storage

        return storage.Client(project=self._project)

    def _patience(self) -> dict[str, Any]:
        """For how long a call is waited for. What is repeated, and how, the library says."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        if self._limit is not None:
            return {"timeout": (self._limit, self._limit), "retry": None}
        return {"timeout": TIMEOUT, "retry": DEFAULT_RETRY.with_timeout(PATIENCE)}

    def _repeated(self, ask: Callable[..., T]) -> Callable[..., T]:
        retry = self._patience()["retry"]
        return ask if retry is None else retry(ask)
