"""What the errors of Google Cloud Storage mean to whoever runs a workflow: what to do, and nothing that is secret."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import StorageError
from dotflow.providers.storages.redact import redact

CREDENTIALS: Final = (
    "run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service "
    "account, and see that it is still valid"
)
PERMISSIONS: Final = (
    "the credentials need storage.objects.list, .get, .create and .delete on the bucket, as in the role Storage Object "
    "User"
)
NETWORK: Final = "see that the network and STORAGE_EMULATOR_HOST, if it is set, are right, and try again"

SETTINGS: Final = "see that the settings are right"

#: By the status: cloud.google.com/storage/docs/json_api/v1/status-codes
ADVICE: Final[Mapping[int, str]] = {
    400: "see that the bucket's name is right",
    401: CREDENTIALS,
    403: PERMISSIONS,
    404: "create the bucket, or see that its name and STORAGE_EMULATOR_HOST, if it is set, are right",
    429: "the service asks for a pause: try again later",
    500: "the service fails: try again later",
    502: "the service fails: try again later",
    503: "the service fails: try again later",
}
#: By the name of the error, or of what it is a kind of.
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
    """What failed, what was said, and what to do about it.

    Args:
        error: What Google's library raised.
        where: The bucket.
    """
    error = getattr(error, "cause", None) or error  # of the last try, where it was tried again and again
    kinds = [kind.__name__ for kind in type(error).__mro__]
    code = getattr(error, "code", None)
    if isinstance(code, int):
        message = f"the service said {int(code)} {kinds[0]}: {redact(str(getattr(error, 'message', '')))}"
        advice = ADVICE.get(int(code), "see what that means in the service's documentation")
    else:
        first = error.args[0] if error.args else ""  # the others may be a whole answer of a service for credentials
        details = _system_message(error) or (first if isinstance(first, str) else type(first).__name__)
        message = f"{kinds[0]}: {redact(details)}"
        advice = next((CLIENT_ADVICE[kind] for kind in kinds if kind in CLIENT_ADVICE), SETTINGS)
    return StorageError(f"The bucket {url} can't be used", f"{message.rstrip('. ')}; {advice}")


def _system_message(error: BaseException) -> str:
    """What the system said, inside of all that it was wrapped in: "Connection refused"; '' if it said nothing."""
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
