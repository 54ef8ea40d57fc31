"""Storages in buckets: S3 and Google Cloud Storage."""
