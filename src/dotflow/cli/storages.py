"""The storages that the command line can name, and the options that go with each."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from dotflow.core.types.storage import TypeStorage

if TYPE_CHECKING:
    from dotflow.abc.storage import Storage


class StorageChoice(NamedTuple):
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


BUCKET_VARIABLES: Final = MappingProxyType({"bucket": "DOTFLOW_BUCKET"})
STORAGES: Final[Mapping[TypeStorage, StorageChoice]] = {
    TypeStorage.DEFAULT: StorageChoice("StorageDefault"),
    TypeStorage.FILE: StorageChoice("StorageFile", ("path",)),
    TypeStorage.SQLITE: StorageChoice("StorageSQLite", ("path",)),
    TypeStorage.POSTGRES: StorageChoice("StoragePostgres", variables=MappingProxyType({"dsn": "DOTFLOW_POSTGRES_DSN"})),
    TypeStorage.S3: StorageChoice("StorageS3", ("bucket", "prefix", "region"), BUCKET_VARIABLES),
    TypeStorage.GCS: StorageChoice("StorageGCS", ("bucket", "prefix", "project"), BUCKET_VARIABLES),
}

STORAGE_OPTIONS: Final = tuple(dict.fromkeys(option for choice in STORAGES.values() for option in choice.options))


def make_storage(name: str | None, options: Mapping[str, str | None]) -> "Storage | None":
    """The storage of that name with the options that were given; None where no name was.

    Raises:
        UsageError: An option that goes with another kind of storage, or one that is missing.
    """
    arguments = {option: value for option, value in options.items() if value is not None}
    if name is None:
        if arguments:
            option = next(iter(arguments))
            kinds = [str(word) for word, choice in STORAGES.items() if option in choice.options]
            raise click.UsageError(f"--{option} goes with --storage {' or '.join(kinds)}: say which.")
        return None
    choice = STORAGES[TypeStorage(name)]
    for option in arguments:
        if option not in choice.options:
            takes = ", ".join(f"--{known}" for known in choice.options) or "no options"
            raise click.UsageError(f"--{option} does not go with --storage {name}, which takes {takes}.")
    for argument, variable in choice.variables.items():
        arguments.setdefault(argument, os.environ.get(variable, ""))
        if argument in choice.options and not arguments[argument]:
            raise click.UsageError(f"--storage {name} needs --{argument}, or ${variable} in the environment.")
    from dotflow import providers

    storage: Storage = getattr(providers, choice.provider)(**arguments)
    return storage
