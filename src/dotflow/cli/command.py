"""What every command of ours shares."""

from typing import Any, Final

import click

#: For every command: -h as well as --help, and lines as long as can be read with ease.
SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(click.Command):
    """A click command with -h and --debug."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = SETTINGS | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, expose_value=False, help="Show the traceback of a mistake, not just a line."
            )
        )
