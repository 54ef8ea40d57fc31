"""StorageS3: objects in a bucket of Amazon S3, or of a compatible service."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

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

REGION: Final = "Set the bucket's region: StorageS3(region=...), or AWS_DEFAULT_REGION"
CREDENTIALS: Final = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role, and check that they "
    "are still valid"
)
PERMISSIONS: Final = (
    "Grant the credentials s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject in it"
)
NETWORK: Final = "Check the network, AWS_ENDPOINT_URL and the region, and try again"
UNKNOWN: Final = "Look that up in the service's documentation"

#: By the service's code: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
ADVICE: Final[Mapping[str, str]] = {
    "NoSuchBucket": "Create the bucket, or check its name and AWS_ENDPOINT_URL",
    "InvalidBucketName": "Check the bucket's name",
    "AccessDenied": PERMISSIONS,
    "403": PERMISSIONS,
    "InvalidAccessKeyId": CREDENTIALS,
    "SignatureDoesNotMatch": CREDENTIALS,
    "ExpiredToken": CREDENTIALS,
    "InvalidToken": CREDENTIALS,
    "PermanentRedirect": REGION,
    "301": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "RequestTimeTooSkewed": "Set this machine's clock",
    "NotImplemented": "Use a service with conditional writes (If-Match, If-None-Match)",
    "SlowDown": "Try again later: the service is overloaded",
}
#: By the class of boto3's error, or a base class.
CLIENT_ADVICE: Final[Mapping[str, str]] = {
    "NoCredentialsError": CREDENTIALS,
    "PartialCredentialsError": CREDENTIALS,
    "CredentialRetrievalError": CREDENTIALS,
    "TokenRetrievalError": CREDENTIALS,
    "SSOError": CREDENTIALS,
    "ProfileNotFound": "Set AWS_PROFILE to a profile of ~/.aws/config",
    "InvalidRegionError": "Check the region's name",
    "NoRegionError": REGION,
    "ParamValidationError": "Check the bucket's name",
    "HTTPClientError": NETWORK,
    "ConnectionError": NETWORK,
}
#: Their messages may contain credentials, or a pattern of 300 characters.
UNQUOTED: Final = frozenset({"CredentialRetrievalError", "TokenRetrievalError", "SSOError", "ParamValidationError"})


def storage_error(error: Any, url: str) -> StorageError:
    """Returns an exception of boto3 as a StorageError.

    Args:
        error: A ClientError, a BotoCoreError, a ValueError or a RecursionError.
        url: The bucket.
    """
    if isinstance(getattr(error, "response", None), dict):  # a ClientError
        message, advice = _refusal(error.response.get("Error", {}))
    elif isinstance(error, RecursionError):  # boto3 asks for the bucket's region, and is redirected there, too
        message = "the service redirects all requests without naming the bucket's region"
        advice = f"Check AWS_ENDPOINT_URL. {REGION}"
    else:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        message = kinds[0] if UNQUOTED.intersection(kinds) else f"{kinds[0]}: {redact(str(error))}"
        advice = next((CLIENT_ADVICE[kind] for kind in kinds if kind in CLIENT_ADVICE), "Check boto3's settings")
    return StorageError(f"The bucket {url} can't be used", with_advice(message, advice))


def _refusal(details: Mapping[str, Any]) -> tuple[str, str]:
    """Returns what the service refused, and the advice."""
    code = str(details.get("Code") or "?")
    return f"the service returned {code}: {redact(str(details.get('Message', '')))}", ADVICE.get(code, UNKNOWN)


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
        timeout: Seconds for a response, of one attempt; None for several, each with READ_TIMEOUT.
    """

    def __init__(self, name: str, region: str | None, timeout: float | None = None) -> None:
        self.name = name
        self.url = f"s3://{name}"
        self._region = region
        self._timeout = timeout
        self._max_attempts = MAX_ATTEMPTS if timeout is None else 1
        self._client: PerProcess[Any] = PerProcess()

    @property
    def endpoint(self) -> str:
        return str(self._call(lambda client: client.meta.endpoint_url))

    def with_timeout(self, seconds: float) -> Self:
        return type(self)(self.name, self._region, seconds)  # with a client of its own, which has the timeouts

    def get(self, name: str) -> StoredObject | None:
        return self._call(lambda client: self._read(client, name), none_for=NOT_FOUND)

    def exists(self, name: str) -> bool:
        return self._request("head_object", NOT_FOUND, Key=name) is not None

    def put(self, name: str, data: bytes, content_type: str = JSON_TYPE) -> None:
        self._request("put_object", Key=name, Body=data, ContentType=content_type)

    def put_if(self, name: str, data: bytes, version: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        document = {"Key": name, "Body": data, "ContentType": JSON_TYPE}
        response = self._request("put_object", PRECONDITION_FAILED, **document, **condition)
        return None if response is None else str(response["ETag"])

    def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), PAGE_SIZE):
            keys = {"Objects": [{"Key": name} for name in names[start : start + PAGE_SIZE]], "Quiet": True}
            response = self._request("delete_objects", Delete=keys)
            if errors := response.get("Errors"):  # those of some objects; the others are deleted
                message, advice = _refusal(errors[0])
                message = f"{len(errors)} objects are left: {message}"
                raise StorageError(f"Objects in {self.url} can't be deleted", with_advice(message, advice))

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

        remaining = self._max_attempts
        while True:
            response = client.get_object(Bucket=self.name, Key=name)
            try:
                data = response["Body"].read()
                date = response["ResponseMetadata"]["HTTPHeaders"].get("date")
                return StoredObject(data, response["ETag"], age(date, response["LastModified"]))
            except (HTTPClientError, IncompleteReadError):  # boto3 doesn't retry a response that was cut off
                remaining -= 1
                if not remaining:
                    raise

    def _request(self, operation: str, none_for: frozenset[str] = frozenset(), **arguments: Any) -> Any:
        return self._call(lambda client: getattr(client, operation)(Bucket=self.name, **arguments), none_for)

    def _call(self, request: Callable[[Any], T], none_for: frozenset[str] = frozenset()) -> T:
        """Returns the response; None for errors with one of these codes. Raises StorageError."""
        from botocore.exceptions import BotoCoreError, ClientError

        failure: StorageError
        try:
            return request(self._client.get(self._make_client))
        except (ClientError, BotoCoreError, RecursionError, ValueError) as error:  # ValueError: an invalid endpoint
            if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in none_for:
                return None  # type: ignore[return-value]
            failure = storage_error(error, self.url)
        raise failure  # outside of the except: the SDK's frames hold credentials

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


class StorageS3(StorageObjects):
    """Saves each value in a readable JSON object of an S3 bucket. Any machine can resume the workflow.

    boto3 finds credentials, profile, endpoint and proxies: `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, `AWS_ENDPOINT_URL`,
    `~/.aws/config`, the role of the machine. Needs `pip install 'dotflow[aws]'`.

    Args:
        bucket: The bucket. It must exist.
        prefix: The beginning of all names; a slash is added at its end. Nothing is read or written elsewhere.
        region: The bucket's region; None for that of the environment.
        lease: How long a workflow stays locked after its machine is gone: seconds, or a text such as "2m". It is
            renewed three times in that time.

    Raises:
        InvalidArgument: One of the arguments is invalid.
        MissingExtra: boto3 is missing.
    """

    def __init__(
        self, bucket: str, prefix: str = "dotflow/", region: str | None = None, *, lease: Duration = SECONDS
    ) -> None:
        region = check_optional_text("region", region, "a region such as 'eu-central-1'")
        super().__init__(S3Bucket(check_bucket(bucket), region), prefix, lease)
        require_extra("boto3", type(self).__name__, "aws")
