"""Errors of Google Cloud Storage and its library as StorageErrors with advice and without secrets."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import StorageError
from dotflow.providers.storages.redact import redact, with_advice

CREDENTIALS: Final = (
    "Run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service "
    "account, and check that it is still valid"
)
PERMISSIONS: Final = (
    "Grant the credentials storage.objects.list, .get, .create and .delete on the bucket, as the role Storage Object "
    "User does"
)
NETWORK: Final = "Check the network and STORAGE_EMULATOR_HOST, if it is set, and try again"
SETTINGS: Final = "Check the settings of Google's library"
UNKNOWN: Final = "Look that up in the service's documentation"
LATER: Final = "Try again later"

#: By the status: cloud.google.com/storage/docs/json_api/v1/status-codes
ADVICE: Final[Mapping[int, str]] = {
    400: "Check the bucket's name",
    401: CREDENTIALS,
    403: PERMISSIONS,
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
        advice = next((CLIENT_ADVICE[kind] for kind in kinds if kind in CLIENT_ADVICE), SETTINGS)
    return StorageError(f"The bucket {url} can't be used", with_advice(message, advice))


def _system_message(error: BaseException) -> str:
    """Returns the innermost message of the system, such as "Connection refused"; "" if there is none."""
    message, pending, seen = "", [error], set()
    while pending:
        current = pending.pop()
        if id(current) not in seen:
            seen.add(id(current))
            if isinstance(current, OSError) and isinstance(current.strerror, str):
                message = current.strerror
            nested = (*current.args, getattr(current, "reason", None), current.__context__, current.__cause__)
            pending += [cause for cause in nested if isinstance(cause, BaseException)]
    return message
