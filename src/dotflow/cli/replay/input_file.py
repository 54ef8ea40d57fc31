"""The file of --input: what `dotflow show --input --json` printed, edited."""

import json

import click

from dotflow.codec.json import decode
from dotflow.core.context import Context
from dotflow.errors import CheckpointUnreadable


def read_input(text: str) -> dict[str, Context]:
    """Returns the values of a file by role. Raises ClickException for another file.

    The checksum of a document does not count, since an edit breaks it.
    """
    values = {}
    try:
        for line in text.splitlines():
            copy = json.loads(line)
            document = copy["document"]
            if document is not None:
                value = decode(json.dumps(document["value"]))
                values[copy["role"]] = Context(value, document.get("task_id"), document.get("workflow_id"))
    except (ValueError, TypeError, KeyError, AttributeError, CheckpointUnreadable) as error:
        reason = error.reason if isinstance(error, CheckpointUnreadable) else f"{type(error).__name__}: {error}"
        how = "Make it with dotflow show RUN STEP --input --json, and edit its values."
        raise click.ClickException(f"Can't read --input: {reason.rstrip('.')}. {how}") from error
    return values
