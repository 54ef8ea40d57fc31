"""What S3's and boto3's errors mean to whoever runs a workflow: what to do, and nothing that is secret."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dotflow.errors import StorageError
from dotflow.providers.storages.redact import redact

REGION: Final = "the bucket is in another region: give StorageS3(region=...), or set AWS_DEFAULT_REGION"
CLOCK: Final = "set this machine's clock"
CREDENTIALS: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role, and see that they "
    "are still valid"
)
PERMISSIONS: Final = (
    "the credentials need s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject in it"
)
NETWORK: Final = "see that the network, AWS_ENDPOINT_URL and the region are right, and try again"
SETTINGS: Final = "see that boto3's settings are right"

#: By the service's code: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
ADVICE: Final[Mapping[str, str]] = {
    "NoSuchBucket": "create the bucket, or see that its name and AWS_ENDPOINT_URL are right",
    "InvalidBucketName": "see that its name is right",
    "AccessDenied": PERMISSIONS,
    "403": PERMISSIONS,
    "InvalidAccessKeyId": CREDENTIALS,
    "SignatureDoesNotMatch": CREDENTIALS,
    "ExpiredToken": CREDENTIALS,
    "InvalidToken": CREDENTIALS,
    "PermanentRedirect": REGION,
    "301": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "RequestTimeTooSkewed": CLOCK,
    "NotImplemented": "dotflow needs a service that knows conditional writes (If-Match, If-None-Match)",
    "SlowDown": "the service asks for a pause: try again later",
}
#: By the name of boto3's own error, or of what it is a kind of.
CLIENT_ADVICE: Final[Mapping[str, str]] = {
    "NoCredentialsError": CREDENTIALS,
    "PartialCredentialsError": CREDENTIALS,
    "CredentialRetrievalError": CREDENTIALS,
    "TokenRetrievalError": CREDENTIALS,
    "SSOError": CREDENTIALS,
    "ProfileNotFound": "see that AWS_PROFILE names a profile of ~/.aws/config",
    "InvalidRegionError": "see that the region is spelt right",
    "NoRegionError": "give StorageS3(region=...), or set AWS_DEFAULT_REGION",
    "ParamValidationError": "see that the bucket's name is right",
    "HTTPClientError": NETWORK,
    "ConnectionError": NETWORK,
}
#: Whose own words may quote the output of a program, or of a service for credentials; or are a pattern of 300 signs.
UNQUOTED: Final = frozenset({"CredentialRetrievalError", "TokenRetrievalError", "SSOError", "ParamValidationError"})


def code_of(error: Any) -> str:
    """The service's code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def storage_error(error: Any, url: str) -> StorageError:
    """What failed, what was said, and what to do about it.

    Args:
        error: A ClientError, a BotoCoreError or a ValueError.
        where: The bucket.
    """
    if isinstance(getattr(error, "response", None), dict):  # ClientError; others have one of another kind
        details = error.response.get("Error", {})
        code = code_of(error)
        message = f"the service said {code or '?'}: {redact(str(details.get('Message', '')))}"
        advice = ADVICE.get(code, "see what that means in the service's documentation")
        region = details.get("Region") or _headers(error).get("x-amz-bucket-region")
        if advice is REGION and region:
            advice = f"the bucket is in {redact(str(region))}: give StorageS3(region={redact(str(region))!r})"
    else:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        message = kinds[0] if UNQUOTED.intersection(kinds) else f"{kinds[0]}: {redact(str(error))}"
        advice = next((CLIENT_ADVICE[kind] for kind in kinds if kind in CLIENT_ADVICE), SETTINGS)
    return StorageError(f"The bucket {url} can't be used", f"{message.rstrip('. ')}; {advice}")


def delete_error(errors: Sequence[Mapping[str, Any]], url: str) -> StorageError:
    """The same, where only some objects of a request failed."""
    first = errors[0]
    code = str(first.get("Code", "?"))
    message = f"{len(errors)} objects are still there; the service said {code}: {redact(str(first.get('Message', '')))}"
    advice = ADVICE.get(code, "see what that means in the service's documentation")
    return StorageError(f"Objects in {url} can't be deleted", f"{message.rstrip('. ')}; {advice}")


def _headers(error: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers
