"""Failures of calls as data: an exception that a record keeps, and that a later attempt raises again."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dotflow.codec.json import encode
from dotflow.codec.types.classes import find, inherits, mro_of, name_for
from dotflow.core.failure import Failure, message_of
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

RAISED_BEFORE: Final = "It was raised in an earlier attempt, whose call was kept:\n"
LEFT_OUT: Final = ("__notes__",)


def write_failure(error: BaseException) -> dict[str, Any]:
    """Returns an exception as plain data: its classes, arguments, attributes, text, notes and traceback."""
    is_group = isinstance(error, BaseExceptionGroup)
    arguments: Sequence[Any] = error.args
    if is_group:
        arguments = error.args[:1]
    elif isinstance(error, OSError):  # its args lack the file's name
        arguments = error.__reduce__()[1]
    data = {
        "classes": _names_of(type(error)),
        "args": list(arguments) if _is_kept(list(arguments)) else None,
        "attributes": {
            name: value for name, value in vars(error).items() if name not in LEFT_OUT and _is_kept({name: value})
        },
        "text": message_of(error),
        "notes": [note for note in getattr(error, "__notes__", None) or () if isinstance(note, str)],
        "traceback": Failure.of(error).traceback,
    }
    if isinstance(error, BaseExceptionGroup):
        data["members"] = [write_failure(member) for member in error.exceptions]
    return data


def read_failure(data: Mapping[str, Any]) -> BaseException:
    """Returns a new exception like the one that was written, of its nearest class that is there. No __init__ runs."""
    error: BaseException | None = None
    for name in data["classes"]:
        try:
            cls = find(name)
        except CheckpointUnreadable:  # its module is not imported, or has no such class any more
            continue
        if inherits(cls, BaseException) and (error := _make(cls, data)) is not None:
            break
    error = Exception(data["text"]) if error is None else error
    for name, value in data["attributes"].items():
        try:
            setattr(error, name, value)
        except Exception:  # a property of the user's class
            continue
    for note in data["notes"]:
        error.add_note(note)
    error.add_note(f"{RAISED_BEFORE}{data['traceback'].rstrip()}")
    return error


def _make(cls: type[Any], data: Mapping[str, Any]) -> BaseException | None:
    """Returns an instance of a class; None where it can't be made without its own code."""
    arguments: Sequence[Any] = [data["text"]] if data["args"] is None else data["args"]
    if "members" in data:
        arguments = [*arguments[:1], [read_failure(member) for member in data["members"]]]
    try:
        error: BaseException = cls.__new__(cls, *arguments)
    except Exception:  # the user's own __new__, or a group for other members
        return None
    if not isinstance(error, BaseException):
        return None
    if "members" not in data:
        given = error.args
        error.args = tuple(arguments)
        if isinstance(error, OSError):
            if given != error.args and error.errno is not None:  # Python has taken the file's name out of them
                error.args = given
            elif error.errno is None and len(arguments) > 1:  # its own __init__ has not run
                error.errno, error.strerror = arguments[:2]
                error.filename = arguments[2] if len(arguments) > 2 else None
    return error


def _names_of(cls: type[Any]) -> list[str]:
    names = []
    for base in mro_of(cls):
        if base is not object and inherits(base, BaseException):
            try:
                names.append(name_for(base))
            except ValueNotStorable:  # a local class, say
                continue
    return names


def _is_kept(value: Any) -> bool:
    try:
        encode(value)
    except ValueNotStorable:
        return False
    return True
