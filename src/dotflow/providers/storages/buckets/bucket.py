"""Bucket: what a storage needs of an object store."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Self

from dotflow.errors import InvalidArgument
from dotflow.providers.storages.leases.lease import Entry, Register

JSON_TYPE = "application/json"
MAX_PREFIX = 700  # bytes; both services allow names of 1,024


class StoredObject(NamedTuple):
    """An object as it was read.

    Attributes:
        data: Its content.
        version: Its version, the condition of a write.
        age: Seconds since it was written, by the service's clock.
    """

    data: bytes
    version: str
    age: float


class Bucket(ABC):
    """A bucket of an object store. Each call that fails raises a StorageError without secrets.

    Attributes:
        name: Its name.
        url: Its URL, such as "s3://name".
    """

    name: str
    url: str

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """The URL of the service, which distinguishes buckets of the same name."""

    @abstractmethod
    def with_timeout(self, seconds: float) -> Self:
        """Returns the same bucket with one attempt for each call, and about so many seconds for the response."""

    @abstractmethod
    def get(self, name: str) -> StoredObject | None:
        """Returns an object; None if there is none."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Returns whether there is such an object."""

    @abstractmethod
    def put(self, name: str, data: bytes, content_type: str = JSON_TYPE) -> None:
        """Writes an object as a whole and replaces an earlier one."""

    @abstractmethod
    def put_if(self, name: str, data: bytes, version: str | None) -> str | None:
        """Writes an object if its current version is *version* (None: there is no object).

        Returns:
            The new version; None if another version is there.
        """

    @abstractmethod
    def delete(self, names: Sequence[str]) -> None:
        """Deletes objects. Some may be missing."""

    @abstractmethod
    def list_names(self, prefix: str) -> Iterator[str]:
        """Yields the names of all objects that begin with *prefix*."""


class ObjectRegister(Register):
    """The text of a workflow as an object.

    Args:
        bucket: The bucket.
        name: The object.
        short_timeout: The same bucket with a shorter timeout.
    """

    def __init__(self, bucket: Bucket, name: str, short_timeout: Bucket) -> None:
        self._bucket = bucket
        self._short_timeout = short_timeout
        self._object = name
        self.key = (bucket.endpoint, bucket.name, name)
        self.location = f"{bucket.url}/{name}"

    def read(self) -> Entry | None:
        stored = self._bucket.get(self._object)
        return None if stored is None else Entry(stored.data.decode("utf-8", "replace"), stored.version, stored.age)

    def write(self, text: str, version: str | None) -> str | None:
        return self._bucket.put_if(self._object, text.encode(), version)

    @property
    def short_timeout(self) -> "ObjectRegister":
        register = copy.copy(self)
        register._bucket = self._short_timeout
        return register


def age(date: str | None, modified: str | datetime | None) -> float:
    """Returns the whole seconds since an object was written, by the service's clock.

    Args:
        date: The time of the response.
        modified: The time of the object's last write in that response.
    """
    if date is None or modified is None:  # unknown: with this age, no lease is taken over
        return 0.0
    if isinstance(modified, str):
        modified = parsedate_to_datetime(modified)
    return max(0.0, (parsedate_to_datetime(date) - modified).total_seconds())


def check_bucket(bucket: object) -> str:
    """Returns the name of a bucket. Raises InvalidArgument."""
    if not isinstance(bucket, str) or not bucket or not bucket.isprintable() or _has_path(bucket):
        raise InvalidArgument("bucket", bucket, "the name of a bucket, without s3:// or gs:// and without a path")
    return bucket


def _has_path(bucket: str) -> bool:
    return not bucket.startswith("arn:") and not {"/", ":"}.isdisjoint(bucket)  # the ARN of an access point


def check_prefix(prefix: object) -> str:
    """Returns a prefix, with a slash at its end unless it is empty. Raises InvalidArgument."""
    if isinstance(prefix, str) and prefix.isprintable():
        parts = prefix.removesuffix("/").split("/")
        if prefix == "" or (set(parts).isdisjoint({"", ".", ".."}) and len(prefix.encode()) <= MAX_PREFIX):
            return prefix and prefix.removesuffix("/") + "/"
    accepted = "text such as 'team/dotflow/', or '': printable, at most 700 bytes, no part of it empty, '.' or '..'"
    raise InvalidArgument("prefix", prefix, accepted)


def check_optional_text(argument: str, value: object, expected: str) -> str | None:
    """Returns a text or None. Raises InvalidArgument."""
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidArgument(argument, value, f"{expected}, or None for that of the environment")
    return value
