"""Pickles: for values that the codec refuses, in storages that only their owner can write to."""

from typing import Any, Final

from dotflow.codec.types.scalars import read_buffer
from dotflow.core.text import shorten
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

_PROTOCOL: Final = 5  # every Python that dotflow supports has it


def write_pickle(value: Any, refusal: ValueNotStorable) -> bytes:
    """Returns the pickle of a value. Raises ValueNotStorable if pickle refuses it, too.

    Args:
        value: The value.
        refusal: Why the codec refused it.
    """
    import pickle

    try:
        return pickle.dumps(value, _PROTOCOL)
    except Exception as error:  # the user's own __reduce__ and __getstate__
        cause = shorten(f"{type(error).__name__}: {error}")
        reason = f"{refusal.reason}; pickle can't keep it either: {cause}".removeprefix("; ")
        raise ValueNotStorable(refusal.kind, refusal.place, reason) from error


def read_pickle(payload: object) -> Any:
    """Loads a pickle, in base 64 or as bytes, which runs any code that is in it. Raises CheckpointUnreadable."""
    import pickle

    try:
        return pickle.loads(read_buffer(payload))
    except Exception as error:  # the user's own __setstate__ and __init__
        cause = shorten(f"{type(error).__name__}: {error}")
        raise CheckpointUnreadable(f"it is a pickle, and unpickling failed: {cause}") from error
