"""What S3's and boto3's errors mean to whoever runs a workflow: what to do, and nothing that is secret."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dotflow.errors import StorageError
from dotflow.providers.storages.redact import shown

REGION: Final = "the bucket is in another region: give StorageS3(region=...), or set AWS_DEFAULT_REGION"
CLOCK: Final = "set this machine's clock"
CREDENTIALS: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role, and see that they "
    "are still valid"
)
ALLOWED: Final = (
    "the credentials need s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject in it"
)
NETWORK: Final = "see that the network, AWS_ENDPOINT_URL and the region are right, and try again"

#: By the service's code: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
CURES: Final[Mapping[str, str]] = {
    "NoSuchBucket": "create the bucket, or see that its name and AWS_ENDPOINT_URL are right",
    "InvalidBucketName": "see that its name is right",
    "AccessDenied": ALLOWED,
    "403": ALLOWED,
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
OWN_CURES: Final[Mapping[str, str]] = {
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
SILENT: Final = frozenset({"CredentialRetrievalError", "TokenRetrievalError", "SSOError", "ParamValidationError"})


def code_of(error: Any) -> str:
    """The service's code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def explained(error: Any, where: str) -> StorageError:
    """What failed, what was said, and what to do about it.

    Args:
        error: A ClientError, a BotoCoreError or a ValueError.
        where: The bucket.
    """
    if isinstance(getattr(error, "response", None), dict):  # ClientError; others have one of another kind
        told = error.response.get("Error", {})
        code = code_of(error)
        said = f"the service said {code or '?'}: {shown(str(told.get('Message', '')))}"
        cure = CURES.get(code, "see what that means in the service's documentation")
        region = told.get("Region") or _headers(error).get("x-amz-bucket-region")
        if cure is REGION and region:
            cure = f"the bucket is in {shown(str(region))}: give StorageS3(region={shown(str(region))!r})"
    else:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        said = kinds[0] if SILENT.intersection(kinds) else f"{kinds[0]}: {shown(str(error))}"
        cure = next((OWN_CURES[kind] for kind in kinds if kind in OWN_CURES), "see that boto3's settings are right")
    return StorageError(f"The bucket {where} can't be used", f"{said.rstrip('. ')}; {cure}")


def explained_keys(errors: Sequence[Mapping[str, Any]], where: str) -> StorageError:
    """The same, where only some objects of a request failed."""
    first = errors[0]
    code = str(first.get("Code", "?"))
    said = f"{len(errors)} objects are still there; the service said {code}: {shown(str(first.get('Message', '')))}"
    cure = CURES.get(code, "see what that means in the service's documentation")
    return StorageError(f"Objects in {where} can't be deleted", f"{said.rstrip('. ')}; {cure}")


def _headers(error: Any) -> Mapping[str, str]:
    found: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return found
