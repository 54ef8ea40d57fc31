"""TypeStorage: the storages, by their names on the command line."""

from enum import StrEnum


class TypeStorage(StrEnum):
    """The kinds of storage."""

    DEFAULT = "default"
    FILE = "file"
    SQLITE = "sqlite"
    POSTGRES = "postgres"
    S3 = "s3"
    GCS = "gcs"
