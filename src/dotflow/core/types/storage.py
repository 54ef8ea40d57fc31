"""Where checkpoints are kept, by the names that the command line uses."""

from enum import StrEnum


class TypeStorage(StrEnum):
    """The kinds of storage."""

    DEFAULT = "default"
    FILE = "file"
    SQLITE = "sqlite"
    POSTGRES = "postgres"
    S3 = "s3"
    GCS = "gcs"
