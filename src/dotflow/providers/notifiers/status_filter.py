"""`notification_type`: the statuses that a notifier reports."""

from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument

ACCEPTED = (
    f"None for all, or one or several (list, tuple, set) of {', '.join(repr(status.value) for status in TypeStatus)}, "
    f"as TypeStatus or as text"
)


def status_filter(notification_type: object) -> frozenset[TypeStatus]:
    """Returns the statuses that a notifier reports.

    Args:
        notification_type: A TypeStatus, its value or name in any case, several of them, or None for all.

    Raises:
        InvalidArgument: One is no status, or there is none at all.
    """
    if notification_type is None:
        return frozenset(TypeStatus)
    values = notification_type if isinstance(notification_type, list | tuple | set | frozenset) else [notification_type]
    matches = {_STATUSES.get(_normalized(value)) if isinstance(value, str) else None for value in values}
    statuses = frozenset(status for status in matches if status is not None)
    if not statuses or None in matches:
        raise InvalidArgument("notification_type", notification_type, ACCEPTED)
    return statuses


def _normalized(name: str) -> str:
    """Returns the same text for IN_PROGRESS, in-progress and "In progress"."""
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


_STATUSES = {_normalized(status.value): status for status in TypeStatus}
