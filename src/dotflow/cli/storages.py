"""The storages of the command line, and their options."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from dotflow.core.types.storage import TypeStorage

if TYPE_CHECKING:
    from dotflow.abc.storage import Storage
    from dotflow.records.record import RunRecord


class StorageChoice(NamedTuple):
    """A storage that --storage names.

    Attributes:
        provider: The name of its class in dotflow.providers.
        options: Its options; each is the argument of the same name.
        variables: Arguments -> their environment variables. An option takes precedence, and one of the two is
            required. A secret is no option, since other users see those; it is empty if its variable is not set.
    """

    provider: str
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}


BUCKET_VARIABLES: Final = {"bucket": "DOTFLOW_BUCKET"}
STORAGES: Final[Mapping[TypeStorage, StorageChoice]] = {
    TypeStorage.DEFAULT: StorageChoice("StorageDefault"),
    TypeStorage.FILE: StorageChoice("StorageFile", ("path", "pickle")),
    TypeStorage.SQLITE: StorageChoice("StorageSQLite", ("path", "pickle")),
    TypeStorage.POSTGRES: StorageChoice("StoragePostgres", ("pickle",), {"dsn": "DOTFLOW_POSTGRES_DSN"}),
    TypeStorage.S3: StorageChoice("StorageS3", ("bucket", "prefix", "region"), BUCKET_VARIABLES),
    TypeStorage.GCS: StorageChoice("StorageGCS", ("bucket", "prefix", "project"), BUCKET_VARIABLES),
}

#: Those that any process of this machine can open by what a run says of them.
LOCAL_STORAGES: Final = ("StorageFile", "StorageSQLite")

STORAGE_ARGUMENTS: Final = tuple(dict.fromkeys(option for choice in STORAGES.values() for option in choice.options))


def local_storage(run: "RunRecord") -> "Storage | None":
    """Returns the files or the SQLite database with the values of a run; None for another storage.

    Nothing is unpickled there: a pickle can run any program.
    """
    kind, _, path = run.storage.removesuffix(")").partition("(")
    if kind not in LOCAL_STORAGES:
        return None
    from dotflow import providers

    storage: Storage = getattr(providers, kind)(Path(run.environment.get("folder") or "", path))
    return storage


def make_storage(name: str | None, options: Mapping[str, Any]) -> "Storage | None":
    """Returns the storage of that name with these options; None without a name. None or False is an absent option.

    Raises:
        UsageError: An option belongs to another storage, or a required one is missing.
    """
    arguments = {option: value for option, value in options.items() if value is not None and value is not False}
    if name is None:
        for option in arguments:
            names = [str(storage) for storage, choice in STORAGES.items() if option in choice.options]
            raise click.UsageError(f"--{option} needs a storage. Add --storage {' or '.join(names)}.")
        return None
    choice = STORAGES[TypeStorage(name)]
    for option in arguments:
        if option not in choice.options:
            accepted = ", ".join(f"--{known}" for known in choice.options) or "no options"
            raise click.UsageError(f"Can't use --{option} with --storage {name}, which takes {accepted}. Remove it.")
    for argument, variable in choice.variables.items():
        arguments.setdefault(argument, os.environ.get(variable, ""))
        if argument in choice.options and not arguments[argument]:
            raise click.UsageError(f"--storage {name} needs --{argument}, or ${variable} in the environment.")
    from dotflow import providers

    storage: Storage = getattr(providers, choice.provider)(**arguments)
    return storage
