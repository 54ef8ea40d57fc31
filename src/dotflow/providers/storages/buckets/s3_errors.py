"""Errors of S3 and boto3 as StorageErrors with advice and without secrets."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dotflow.errors import StorageError
from dotflow.providers.storages.redact import redact, with_advice

REGION: Final = "Set the bucket's region: StorageS3(region=...), or AWS_DEFAULT_REGION"
CLOCK: Final = "Set this machine's clock"
CREDENTIALS: Final = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role, and check that they "
    "are still valid"
)
PERMISSIONS: Final = (
    "Grant the credentials s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject in it"
)
NETWORK: Final = "Check the network, AWS_ENDPOINT_URL and the region, and try again"
SETTINGS: Final = "Check boto3's settings"
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
    "RequestTimeTooSkewed": CLOCK,
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
    "NoRegionError": "Set the region: StorageS3(region=...), or AWS_DEFAULT_REGION",
    "ParamValidationError": "Check the bucket's name",
    "HTTPClientError": NETWORK,
    "ConnectionError": NETWORK,
}
#: Their messages may contain credentials, or a pattern of 300 characters.
UNQUOTED: Final = frozenset({"CredentialRetrievalError", "TokenRetrievalError", "SSOError", "ParamValidationError"})


def code_of(error: Any) -> str:
    """Returns the service's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def storage_error(error: Any, url: str) -> StorageError:
    """Returns an exception of boto3 as a StorageError.

    Args:
        error: A ClientError, a BotoCoreError or a ValueError.
        url: The bucket.
    """
    if isinstance(getattr(error, "response", None), dict):  # a ClientError
        details = error.response.get("Error", {})
        code = code_of(error)
        message = f"the service returned {code or '?'}: {redact(str(details.get('Message', '')))}"
        advice = ADVICE.get(code, UNKNOWN)
        region = details.get("Region") or _headers(error).get("x-amz-bucket-region")
        if advice is REGION and region:
            advice = f"Set the bucket's region: StorageS3(region={redact(str(region))!r})"
    else:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        message = kinds[0] if UNQUOTED.intersection(kinds) else f"{kinds[0]}: {redact(str(error))}"
        advice = next((CLIENT_ADVICE[kind] for kind in kinds if kind in CLIENT_ADVICE), SETTINGS)
    return StorageError(f"The bucket {url} can't be used", with_advice(message, advice))


def delete_error(errors: Sequence[Mapping[str, Any]], url: str) -> StorageError:
    """Returns the StorageError of a request that deleted some objects and failed for others."""
    first = errors[0]
    code = str(first.get("Code", "?"))
    message = f"{len(errors)} objects are left: the service returned {code}: {redact(str(first.get('Message', '')))}"
    advice = ADVICE.get(code, UNKNOWN)
    return StorageError(f"Objects in {url} can't be deleted", with_advice(message, advice))


def _headers(error: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers
