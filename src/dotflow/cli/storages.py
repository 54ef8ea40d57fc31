"""The storages that the command line can name, and the options that go with each."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from dotflow.core.types.storage import TypeStorage

if TYPE_CHECKING:
    from dotflow.abc.storage import Storage


class Kind(NamedTuple):
    """One kind of storage.

    Attributes:
        provider: The name of its class in dotflow.providers.
        options: The options that it takes; each is the argument of the same name.
        variables: Arguments that come from a variable of the environment, and its name. An option goes before it, and
            one of the two is needed. A secret is no option, since others see those; it is empty where none is set.
    """

    provider: str
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = MappingProxyType({})


IN_BUCKETS: Final = MappingProxyType({"bucket": "DOTFLOW_BUCKET"})
KINDS: Final[Mapping[TypeStorage, Kind]] = {
    TypeStorage.DEFAULT: Kind("StorageDefault"),
    TypeStorage.FILE: Kind("StorageFile", ("path",)),
    TypeStorage.SQLITE: Kind("StorageSQLite", ("path",)),
    TypeStorage.POSTGRES: Kind("StoragePostgres", variables=MappingProxyType({"dsn": "DOTFLOW_POSTGRES_DSN"})),
    TypeStorage.S3: Kind("StorageS3", ("bucket", "prefix", "region"), IN_BUCKETS),
    TypeStorage.GCS: Kind("StorageGCS", ("bucket", "prefix", "project"), IN_BUCKETS),
}

OPTIONS: Final = tuple(dict.fromkeys(option for kind in KINDS.values() for option in kind.options))


def make_storage(name: str | None, given: Mapping[str, str | None]) -> "Storage | None":
    """The storage of that name with the options that were given; None where no name was.

    Raises:
        UsageError: An option that goes with another kind of storage, or one that is missing.
    """
    named = {option: value for option, value in given.items() if value is not None}
    if name is None:
        if named:
            option = next(iter(named))
            kinds = [str(word) for word, kind in KINDS.items() if option in kind.options]
            raise click.UsageError(f"--{option} goes with --storage {' or '.join(kinds)}: say which.")
        return None
    kind = KINDS[TypeStorage(name)]
    for option in named:
        if option not in kind.options:
            takes = ", ".join(f"--{known}" for known in kind.options) or "no options"
            raise click.UsageError(f"--{option} does not go with --storage {name}, which takes {takes}.")
    for argument, variable in kind.variables.items():
        named.setdefault(argument, os.environ.get(variable, ""))
        if argument in kind.options and not named[argument]:
            raise click.UsageError(f"--storage {name} needs --{argument}, or ${variable} in the environment.")
    from dotflow import providers

    storage: Storage = getattr(providers, kind.provider)(**named)
    return storage
