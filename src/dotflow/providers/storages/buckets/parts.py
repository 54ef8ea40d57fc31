"""Large values of a checkpoint in objects of their own: `3.5f0c9a2104e7d8b1.bin` beside `3.json`."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from dotflow.codec.parts import Part, Raw
from dotflow.providers.storages.buckets.bucket import Bucket
from dotflow.providers.storages.part_files import new_part_name, stem_of

CONTENT_TYPE: Final = "application/octet-stream"


class PartObjects:
    """The parts of one document.

    Args:
        task: The document's name, without its suffix.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self.contents: dict[str, bytes] = {}

    def put(self, raw: Raw) -> Part:
        """Takes a part, as dotflow.codec.parts says, for whoever puts the pieces into the bucket."""
        name, content = new_part_name(self._task, raw.suffix), bytes(raw.copy())
        self.contents[name] = content
        return Part(name, len(content), sha256(content).hexdigest())


def list_parts(bucket: Bucket, document: str) -> Iterator[str]:
    """The names of the objects of a document's parts, also of those that it no longer names."""
    folder, _, task = document.rpartition("/")
    stem = task.rpartition(".")[0]
    for name in bucket.list_names(f"{folder}/{stem}."):
        if stem_of(name.rpartition("/")[2]) == stem:
            yield name


def fetch_part(bucket: Bucket, document: str, part: Part) -> bytes | None:
    """Reads a part, as dotflow.codec.parts says. No object is read that is not beside the document."""
    folder, _, task = document.rpartition("/")
    if stem_of(part.name) != task.rpartition(".")[0] or "/" in part.name:
        return None
    stored = bucket.get(f"{folder}/{part.name}")
    return None if stored is None else stored.data
