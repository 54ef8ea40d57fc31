"""StorageGCS: objects in a bucket of Google Cloud Storage."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from dotflow.core.durations import Duration
from dotflow.errors import StorageError
from dotflow.providers.optional import PerProcess, require_extra
from dotflow.providers.redact import redact, with_advice
from dotflow.providers.storages.buckets.bucket_storage import (
    JSON_TYPE,
    Bucket,
    StorageObjects,
    StoredObject,
    age,
    check_bucket,
    check_optional_text,
)
from dotflow.providers.storages.lease import SECONDS

CREDENTIALS: Final = (
    "Run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service "
    "account, and check that it is still valid"
)
NETWORK: Final = "Check the network and STORAGE_EMULATOR_HOST, if it is set, and try again"
UNKNOWN: Final = "Look that up in the service's documentation"
LATER: Final = "Try again later"

#: By the status: cloud.google.com/storage/docs/json_api/v1/status-codes
ADVICE: Final[Mapping[int, str]] = {
    400: "Check the bucket's name",
    401: CREDENTIALS,
    403: "Grant the credentials storage.objects.list, .get, .create and .delete on the bucket, as the role Storage "
    "Object User does",
    404: "Create the bucket, or check its name and STORAGE_EMULATOR_HOST, if it is set",
    429: LATER,
    500: LATER,
    502: LATER,
    503: LATER,
}
#: By the class of the error, or a base class.
CLIENT_ADVICE: Final[Mapping[str, str]] = {
    "TransportError": NETWORK,
    "GoogleAuthError": CREDENTIALS,
    "RetryError": NETWORK,
    "RequestException": NETWORK,
    "ConnectionError": NETWORK,
    "TimeoutError": NETWORK,
    "gaierror": NETWORK,
    "OSError": CREDENTIALS,
}


def storage_error(error: Any, url: str) -> StorageError:
    """Returns an exception of Google's library as a StorageError.

    Args:
        error: The exception.
        url: The bucket.
    """
    error = getattr(error, "cause", None) or error  # the last attempt's
    kinds = [kind.__name__ for kind in type(error).__mro__]
    code = getattr(error, "code", None)
    if isinstance(code, int):
        message = f"the service returned {int(code)} {kinds[0]}: {redact(str(getattr(error, 'message', '')))}"
        advice = ADVICE.get(int(code), UNKNOWN)
    else:
        first = error.args[0] if error.args else ""  # the others may contain credentials
        details = _system_message(error) or (first if isinstance(first, str) else type(first).__name__)
        message = f"{kinds[0]}: {redact(details)}"
        settings = "Check the settings of Google's library"
        advice = next((CLIENT_ADVICE[kind] for kind in kinds if kind in CLIENT_ADVICE), settings)
    return StorageError(f"The bucket {url} can't be used", with_advice(message, advice))


def _system_message(error: BaseException) -> str:
    """Returns the innermost message of Python or the system, such as "Connection refused"; "" if there is none."""
    message, pending, seen = "", [error], set()
    while pending:
        current = pending.pop()
        if id(current) not in seen:
            seen.add(id(current))
            is_own = type(current).__module__ in ("builtins", "http.client")  # others may have the URL of the request
            text = getattr(current, "strerror", None) or (current.args[0] if is_own and current.args else None)
            if isinstance(current, OSError) and isinstance(text, str):
                message = text
            nested = (*current.args, getattr(current, "reason", None), current.__context__, current.__cause__)
            pending += [cause for cause in nested if isinstance(cause, BaseException)]
    return message


T = TypeVar("T")

TIMEOUT: Final = (5.0, 20.0)  # seconds to connect, and without a byte
RETRY_TIMEOUT: Final = 30.0  # seconds for a call with its retries; Google's library decides which errors to retry
MAX_BATCH: Final = 100  # calls in one request: cloud.google.com/storage/docs/batch

NOT_FOUND: Final = 404
PRECONDITION_FAILED: Final = 412  # cloud.google.com/storage/docs/request-preconditions


class GCSBucket(Bucket):
    """A bucket of Google Cloud Storage.

    Args:
        name: The bucket.
        project: The project of the requests, if any.
    """

    def __init__(self, name: str, project: str | None) -> None:
        self.name = name
        self.url = f"gs://{name}"
        self._project = project
        self._client: PerProcess[Any] = PerProcess()
        self._bucket_exists = False
        self._timeout: float | None = None

    @property
    def endpoint(self) -> str:
        return str(self._call(lambda client: client.api_endpoint))

    def with_timeout(self, seconds: float) -> Self:
        bucket = copy.copy(self)
        bucket._timeout = seconds
        return bucket

    def get(self, name: str) -> StoredObject | None:
        response = self._read(name)
        if response is None:
            return None
        return StoredObject(
            response.content,
            response.headers.get("x-goog-generation", ""),
            age(response.headers.get("date"), response.headers.get("last-modified")),
        )

    def exists(self, name: str) -> bool:
        return self._call(lambda client: bool(self._blob(client, name).exists(**self._call_options())))

    def put(self, name: str, data: bytes, content_type: str = JSON_TYPE) -> None:
        # Safe to retry: only the holder of a workflow writes its values.
        self._call(lambda client: self._upload(client, name, data, content_type))

    def put_if(self, name: str, data: bytes, version: str | None) -> str | None:
        condition = {"if_generation_match": int(version or 0)}
        return self._call(
            lambda client: self._upload(client, name, data, JSON_TYPE, **condition), none_for=PRECONDITION_FAILED
        )

    def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), MAX_BATCH):
            batch_names = names[start : start + MAX_BATCH]
            if len(batch_names) == 1 or self._call(partial(self._delete_batch, names=batch_names), NOT_FOUND) is None:
                for name in batch_names:  # one is missing, and the response does not say which
                    self._call(partial(self._delete, name=name), NOT_FOUND)

    def list_names(self, prefix: str) -> Iterator[str]:
        options = {"prefix": prefix, "fields": "items(name),nextPageToken", **self._call_options()}
        pages = self._call(lambda client: iter(client.list_blobs(self.name, **options).pages))
        while (page := self._call(lambda client: next(pages, None))) is not None:
            yield from [blob.name for blob in page]

    def _read(self, name: str) -> Any:
        """Returns the response to a request for an object; None if there is none.

        The library's own download does not return generation and age.
        """

        def request(client: Any) -> Any:
            from google.api_core.exceptions import from_http_response

            url = f"{client.api_endpoint}/storage/v1/b/{quote(self.name, safe='')}/o/{quote(name, safe='')}?alt=media"
            response = client._http.get(url, timeout=self._call_options()["timeout"])
            if response.status_code >= 300:
                raise from_http_response(response)
            return response

        response = self._call(lambda client: self._with_retry(request)(client), NOT_FOUND)
        if response is None and not self._bucket_exists:  # or the bucket is missing
            self._call(lambda client: list(client.list_blobs(self.name, max_results=1, **self._call_options())))
        self._bucket_exists = True
        return response

    def _upload(self, client: Any, name: str, data: bytes, content_type: str, **condition: int) -> str:
        blob = self._blob(client, name)
        blob.cache_control = "no-store"  # public objects are cached otherwise
        blob.upload_from_string(data, content_type=content_type, checksum="crc32c", **self._call_options(), **condition)
        return str(blob.generation)

    def _delete_batch(self, client: Any, names: Sequence[str]) -> bool:
        def request() -> bool:
            with client.batch():
                for name in names:
                    self._delete(client, name)
            return True

        return bool(self._with_retry(request)())

    def _delete(self, client: Any, name: str) -> bool:
        self._blob(client, name).delete(**self._call_options())
        return True

    def _blob(self, client: Any, name: str) -> Any:
        return client.bucket(self.name).blob(name)

    def _call(self, request: Callable[[Any], T], none_for: int = 0) -> T:
        """Returns the result of a request; None for an error with this status. Raises StorageError."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        failure: StorageError
        try:
            return request(self._client.get(self._make_client))
        except (GoogleAPIError, GoogleAuthError, RequestException, ValueError, OSError) as error:
            # ValueError, OSError: an invalid endpoint, or an unreadable file of credentials
            if none_for and getattr(error, "code", None) == none_for:
                return None  # type: ignore[return-value]
            failure = storage_error(error, self.url)
        raise failure  # outside of the except: the library's frames hold credentials

    def _make_client(self) -> Any:
        from google.cloud import storage

        return storage.Client(project=self._project)

    def _call_options(self) -> dict[str, Any]:
        """Returns the timeout and the retries of a call."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        if self._timeout is not None:
            return {"timeout": (self._timeout, self._timeout), "retry": None}
        return {"timeout": TIMEOUT, "retry": DEFAULT_RETRY.with_timeout(RETRY_TIMEOUT)}

    def _with_retry(self, request: Callable[..., T]) -> Callable[..., T]:
        retry = self._call_options()["retry"]
        return request if retry is None else retry(request)


class StorageGCS(StorageObjects):
    """Saves each value in a readable JSON object of a Google Cloud Storage bucket. Any machine can resume the workflow.

    Google's library finds credentials and endpoint: `GOOGLE_APPLICATION_CREDENTIALS`, `gcloud auth application-default
    login`, the service account of the machine, `STORAGE_EMULATOR_HOST`. Needs `pip install 'dotflow[gcp]'`.

    Args:
        bucket: The bucket. It must exist.
        prefix: The beginning of all names; a slash is added at its end. Nothing is read or written elsewhere.
        project: The project of the requests; None for none, which objects don't need.
        lease: How long a workflow stays locked after its machine is gone: seconds, or a text such as "2m". It is
            renewed three times in that time.

    Raises:
        InvalidArgument: One of the arguments is invalid.
        MissingExtra: google-cloud-storage is missing.
    """

    def __init__(
        self, bucket: str, prefix: str = "dotflow/", project: str | None = None, *, lease: Duration = SECONDS
    ) -> None:
        project = check_optional_text("project", project, "the id of a project")
        super().__init__(GCSBucket(check_bucket(bucket), project), prefix, lease)
        require_extra("google.cloud.storage", type(self).__name__, "gcp")
