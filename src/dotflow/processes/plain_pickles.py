"""Pickles by reference: of scalars for any process, of all else for one with the same `__main__`. They are faster."""

import io
import pickle
from types import MappingProxyType
from typing import Any, Final

from dotflow.processes.channel import dump_by_value

#: Types whose instances are the same however they are pickled.
SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})


class ReferencePickler(pickle.Pickler):
    """Pickles by reference what pickle does, and read-only mappings, such as a run's parameters."""

    def reducer_override(self, obj: Any) -> Any:
        """Returns how a read-only mapping is pickled; NotImplemented leaves all others to pickle."""
        return (_read_only, (dict(obj),)) if isinstance(obj, MappingProxyType) else NotImplemented


def _read_only(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


def dump_by_reference(value: object) -> list[Any]:
    """Pickles for a parent or child by fork, which has the same `__main__`."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        return [pickle.dumps(value, protocol=5, buffer_callback=buffers.append), *(buffer.raw() for buffer in buffers)]
    except Exception:  # a value that pickle can't look up by name, or whose own methods raise
        buffers.clear()
    try:  # takes twice as long
        with io.BytesIO() as file:
            ReferencePickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
            return [file.getvalue(), *(buffer.raw() for buffer in buffers)]
    except Exception:  # a lambda or a local class can only be pickled by value
        return dump_by_value(value)


def dump_plain(value: object) -> list[Any]:
    """Pickles what holds only scalars and the library's own types: in a tenth of the time, and for any process."""
    return [pickle.dumps(value, protocol=5)]
