"""A bucket: the few things that a storage asks of a service that keeps objects."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Self

from dotflow.errors import InvalidArgument
from dotflow.providers.storages.leases.lease import Register
from dotflow.providers.storages.leases.lease_record import Entry

JSON_TYPE = "application/json"  # the media type of what isn't said to be something else
MAX_PREFIX = 700  # bytes; with what is put behind it, a name stays under the 1,024 that both services allow


class StoredObject(NamedTuple):
    """An object as it was read.

    Attributes:
        data: What is in it.
        version: Of this very object: the condition of a write.
        age: Seconds since it was put, by the service's own clock.
    """

    data: bytes
    version: str
    age: float


class Bucket(ABC):
    """Objects under their names. Every call that fails raises StorageError, with nothing secret in it.

    Attributes:
        name: The bucket.
        where: The bucket, for readers: "s3://name".
    """

    name: str
    url: str

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """The service that it is kept by: where two of them have a bucket of one name, they differ in this."""

    @abstractmethod
    def with_timeout(self, seconds: float) -> Self:
        """The same one, where each call is tried once, and given up after about so many seconds of silence."""

    @abstractmethod
    def get(self, name: str) -> StoredObject | None:
        """An object, if there is one."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such an object."""

    @abstractmethod
    def put(self, name: str, data: bytes, content_type: str = JSON_TYPE) -> None:
        """Puts an object there as a whole, in place of another one."""

    @abstractmethod
    def put_if(self, name: str, data: bytes, version: str | None) -> str | None:
        """Puts it there if *version* is what is there still (None: nothing); its version, or None if it is not."""

    @abstractmethod
    def delete(self, names: Sequence[str]) -> None:
        """Deletes objects, of which some may be gone already."""

    @abstractmethod
    def list_names(self, prefix: str) -> Iterator[str]:
        """The names that begin so, however many."""


class ObjectRegister(Register):
    """The text of a workflow, as an object.

    Args:
        bucket: Where it is.
        name: The object's.
        briefly: The same bucket, for what is soon given up.
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
    """Seconds since an object was put, by the service's clock, in whole ones, as HTTP is.

    Args:
        date: When the service answered.
        modified: When the object was put, as the service said in the same answer.
    """
    if date is None or modified is None:  # nobody can say: as fresh as can be, so that nothing is taken from anybody
        return 0.0
    if isinstance(modified, str):
        modified = parsedate_to_datetime(modified)
    return max(0.0, (parsedate_to_datetime(date) - modified).total_seconds())


def check_bucket(bucket: object) -> str:
    """The bucket's name. Raises InvalidArgument."""
    if not isinstance(bucket, str) or not bucket or not bucket.isprintable() or _has_path(bucket):
        raise InvalidArgument("bucket", bucket, "the name of a bucket, without s3:// or gs:// and without a path")
    return bucket


def _has_path(bucket: str) -> bool:
    return not bucket.startswith("arn:") and not {"/", ":"}.isdisjoint(bucket)  # S3 calls an access point by its ARN


def check_prefix(prefix: object) -> str:
    """What all names begin with: empty, or ending in a slash, which is added. Raises InvalidArgument."""
    if isinstance(prefix, str) and prefix.isprintable():
        parts = prefix.removesuffix("/").split("/")
        if prefix == "" or (set(parts).isdisjoint({"", ".", ".."}) and len(prefix.encode()) <= MAX_PREFIX):
            return prefix and prefix.removesuffix("/") + "/"
    accepted = "text such as 'team/dotflow/', or '': printable, at most 700 bytes, no part of it empty, '.' or '..'"
    raise InvalidArgument("prefix", prefix, accepted)


def check_optional_text(argument: str, value: object, expected: str) -> str | None:
    """Text, or None. Raises InvalidArgument."""
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidArgument(argument, value, f"{expected}, or None for what the environment says")
    return value
