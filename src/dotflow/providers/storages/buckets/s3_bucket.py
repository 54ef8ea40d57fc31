"""A bucket of Amazon S3, through boto3."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self, TypeVar

from dotflow.errors import StorageError
from dotflow.providers.optional import PerProcess
from dotflow.providers.storages.buckets.bucket import JSON_TYPE, Bucket, StoredObject, age
from dotflow.providers.storages.buckets.s3_errors import code_of, delete_error, storage_error

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 5.0  # seconds
READ_TIMEOUT: Final = 20.0  # seconds without a byte
MAX_ATTEMPTS: Final = 4  # of each request; boto3's mode "standard" decides which errors to retry
#: Keys in a request: docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
PAGE_SIZE: Final = 1000

NOT_FOUND: Final = frozenset({"NoSuchKey", "404"})
#: Another version, or a concurrent write: docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
PRECONDITION_FAILED: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", *NOT_FOUND})


class S3Bucket(Bucket):
    """A bucket of Amazon S3, or of a compatible service.

    Args:
        name: The bucket.
        region: Its region; None for that of the environment.
    """

    def __init__(self, name: str, region: str | None) -> None:
        self.name = name
        self.url = f"s3://{name}"
        self._region = region
        self._timeout: float | None = None
        self._client: PerProcess[Any] = PerProcess()

    @property
    def endpoint(self) -> str:
        return str(self._call(lambda client: client.meta.endpoint_url))

    def with_timeout(self, seconds: float) -> Self:
        # Its client is another one, since the timeouts belong to the client.
        bucket = type(self)(self.name, self._region)
        bucket._timeout = seconds
        return bucket

    def get(self, name: str) -> StoredObject | None:
        return self._call(lambda client: self._read(client, name), none_for=NOT_FOUND)

    def exists(self, name: str) -> bool:
        return self._request("head_object", NOT_FOUND, Key=name) is not None

    def put(self, name: str, data: bytes, content_type: str = JSON_TYPE) -> None:
        self._put(name, data, ContentType=content_type)

    def put_if(self, name: str, data: bytes, version: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        response = self._put(name, data, PRECONDITION_FAILED, **condition)
        return None if response is None else str(response["ETag"])

    def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), PAGE_SIZE):
            keys = {"Objects": [{"Key": name} for name in names[start : start + PAGE_SIZE]], "Quiet": True}
            response = self._request("delete_objects", Delete=keys)
            if response.get("Errors"):
                raise delete_error(response["Errors"], self.url)

    def list_names(self, prefix: str) -> Iterator[str]:
        page: dict[str, Any] = {}
        while True:
            response = self._request("list_objects_v2", Prefix=prefix, MaxKeys=PAGE_SIZE, **page)
            yield from (entry["Key"] for entry in response.get("Contents", ()))
            if not response.get("IsTruncated"):
                return
            page = {"ContinuationToken": response["NextContinuationToken"]}

    def _read(self, client: Any, name: str) -> StoredObject:
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for remaining in reversed(range(self._max_attempts)):
            response = client.get_object(Bucket=self.name, Key=name)
            try:
                data = response["Body"].read()
                return StoredObject(data, response["ETag"], age(_date(response), response["LastModified"]))
            except (HTTPClientError, IncompleteReadError):  # boto3 doesn't retry a response that was cut off
                if not remaining:
                    raise
        raise AssertionError("MAX_ATTEMPTS is more than 0")

    def _put(self, name: str, data: bytes, none_for: frozenset[str] = frozenset(), **condition: str) -> Any:
        arguments = {"Key": name, "Body": data, "ContentType": JSON_TYPE, **condition}
        return self._request("put_object", none_for, **arguments)

    def _request(self, operation: str, none_for: frozenset[str] = frozenset(), **arguments: Any) -> Any:
        return self._call(lambda client: getattr(client, operation)(Bucket=self.name, **arguments), none_for)

    def _call(self, request: Callable[[Any], T], none_for: frozenset[str] = frozenset()) -> T:
        """Returns the response; None for errors with one of these codes. Raises StorageError."""
        from botocore.exceptions import BotoCoreError, ClientError

        failure: StorageError
        try:
            return request(self._client.get(self._make_client))
        except ClientError as error:
            if code_of(error) in none_for:
                return None  # type: ignore[return-value]
            failure = storage_error(error, self.url)
        except (BotoCoreError, ValueError) as error:  # ValueError: an invalid endpoint
            failure = storage_error(error, self.url)
        raise failure  # outside of the except: the SDK's frames hold credentials

    @property
    def _max_attempts(self) -> int:
        return MAX_ATTEMPTS if self._timeout is None else 1

    def _make_client(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=self._timeout or CONNECT_TIMEOUT,
            read_timeout=self._timeout or READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": self._max_attempts},
            user_agent_extra="dotflow",
        )
        return boto3.client("s3", region_name=self._region, config=config)  # of the default session


def _date(response: Any) -> str | None:
    date: str | None = response["ResponseMetadata"]["HTTPHeaders"].get("date")
    return date
