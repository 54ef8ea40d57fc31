"""A bucket of Amazon S3, asked through boto3."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self, TypeVar

from dotflow.errors import StorageError
from dotflow.providers.optional import PerProcess
from dotflow.providers.storages.buckets.bucket import JSON, Bucket, Found, age
from dotflow.providers.storages.buckets.s3_errors import code_of, explained, explained_keys

T = TypeVar("T")

CONNECT: Final = 5.0  # seconds to reach the service
READ: Final = 20.0  # seconds in which it has to say something
TRIES: Final = 4  # of each request, in all: boto3's "standard" mode knows which errors are worth it
PAGE: Final = 1000  # keys; DeleteObjects takes no more: docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html

MISSING: Final = frozenset({"NoSuchKey", "404"})
#: No longer what it was, or changed just now: docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
CHANGED: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", *MISSING})


class S3Bucket(Bucket):
    """A bucket, as Bucket says.

    Args:
        name: The bucket.
        region: Its region; None for what the environment says.
    """

    def __init__(self, name: str, region: str | None) -> None:
        self.name = name
        self.where = f"s3://{name}"
        self._region = region
        self._limit: float | None = None
        self._late: PerProcess[Any] = PerProcess()

    @property
    def endpoint(self) -> str:
        return str(self._ask(lambda client: client.meta.endpoint_url))

    def brief(self, seconds: float) -> Self:
        """As Bucket says. It has a client of its own, since a client has but one patience."""
        brief = type(self)(self.name, self._region)
        brief._limit = seconds
        return brief

    def get(self, name: str) -> Found | None:
        return self._ask(lambda client: self._read(client, name), none_for=MISSING)

    def has(self, name: str) -> bool:
        return self._call("head_object", MISSING, Key=name) is not None

    def put(self, name: str, data: bytes, media: str = JSON) -> None:
        self._put(name, data, ContentType=media)

    def put_over(self, name: str, data: bytes, version: str | None) -> str | None:
        answer = self._put(name, data, CHANGED, **({"IfNoneMatch": "*"} if version is None else {"IfMatch": version}))
        return None if answer is None else str(answer["ETag"])

    def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), PAGE):
            keys = {"Objects": [{"Key": name} for name in names[start : start + PAGE]], "Quiet": True}
            answer = self._call("delete_objects", Delete=keys)
            if answer.get("Errors"):
                raise explained_keys(answer["Errors"], self.where)

    def names(self, prefix: str) -> Iterator[str]:
        more: dict[str, Any] = {}
        while True:
            answer = self._call("list_objects_v2", Prefix=prefix, MaxKeys=PAGE, **more)
            yield from (found["Key"] for found in answer.get("Contents", ()))
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _read(self, client: Any, name: str) -> Found:
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for left in reversed(range(self._tries)):
            answer = client.get_object(Bucket=self.name, Key=name)
            try:
                return Found(answer["Body"].read(), answer["ETag"], age(_date(answer), answer["LastModified"]))
            except (HTTPClientError, IncompleteReadError):  # cut off in the middle: boto3 doesn't repeat what has begun
                if not left:
                    raise
        raise AssertionError("TRIES is more than 0")

    def _put(self, name: str, data: bytes, none_for: frozenset[str] = frozenset(), **condition: str) -> Any:
        return self._call("put_object", none_for, **{"Key": name, "Body": data, "ContentType": JSON, **condition})

    def _call(self, operation: str, none_for: frozenset[str] = frozenset(), **arguments: Any) -> Any:
        return self._ask(lambda client: getattr(client, operation)(Bucket=self.name, **arguments), none_for)

    def _ask(self, ask: Callable[[Any], T], none_for: frozenset[str] = frozenset()) -> T:
        """What the service answers; None for errors of these codes. Raises StorageError."""
        from botocore.exceptions import BotoCoreError, ClientError

        told: StorageError
        try:
            return ask(self._late.get(self._make))
        except ClientError as error:
            if code_of(error) in none_for:
                return None  # type: ignore[return-value]
            told = explained(error, self.where)
        except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is none
            told = explained(error, self.where)
        raise told  # not from there: what the SDK has at hand when it fails is nobody else's business

    @property
    def _tries(self) -> int:
        return TRIES if self._limit is None else 1

    def _make(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=self._limit or CONNECT,
            read_timeout=self._limit or READ,
            retries={"mode": "standard", "total_max_attempts": self._tries},
            user_agent_extra="dotflow",
        )
        return boto3.client("s3", region_name=self._region, config=config)  # as boto3.setup_default_session has it


def _date(answer: Any) -> str | None:
    found: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return found
