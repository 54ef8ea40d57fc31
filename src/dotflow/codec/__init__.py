"""Values to text and back without loss: tagged JSON, which a person can read."""

from dotflow.codec.json import decode, encode

__all__ = ["decode", "encode"]
