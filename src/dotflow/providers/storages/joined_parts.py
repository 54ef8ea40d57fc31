"""Parts of a checkpoint joined in one column beside its document, so that both change at once."""

from hashlib import sha256

from dotflow.codec.parts import Blob, Raw


class JoinedParts:
    """The parts of one document.

    Args:
        data: The column's content, for reading.
    """

    __slots__ = ("_checksum", "_data", "_parts")

    def __init__(self, data: bytes | None = None) -> None:
        self._data = data
        self._parts: list[bytes | memoryview] = []
        self._checksum = ""  # of the last part

    def put(self, raw: Raw) -> Blob:
        """Adds a part; see dotflow.codec.parts."""
        data = raw.copy()
        self._parts.append(data)
        self._checksum = sha256(data).hexdigest()
        return Blob(str(len(self._parts)), len(data), self._checksum)

    def data(self) -> bytes | memoryview | None:
        """Returns the column's content; None without parts."""
        if len(self._parts) < 2:
            return self._parts[0] if self._parts else None
        return b"".join(self._parts)

    def checksum(self) -> str:
        """Returns the SHA-256 of the column's content."""
        return self._checksum if len(self._parts) == 1 else sha256(self.data() or b"").hexdigest()

    def fetch(self, part: Blob, before: int) -> bytes | None:
        """Returns a part; see dotflow.codec.parts."""
        data = self._data
        if data is None or before + part.size > len(data):
            return None
        return data if part.size == len(data) else data[before : before + part.size]
