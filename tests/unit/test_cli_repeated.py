"""Options that are there twice: each command refuses them, unless they may be repeated."""

from collections.abc import Iterator

import click
import pytest

from dotflow.cli.main import COMMANDS, dotflow, main


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(dotflow)
    for name in COMMANDS:
        command = dotflow.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", inner) for sub, inner in command.commands.items())
        else:
            yield name, command


OPTIONS = [
    pytest.param(name, option, id=f"{name} {option.opts[-1]}")
    for name, command in commands()
    for option in command.params
    if isinstance(option, click.Option)
]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_option_that_is_there_twice_is_refused(
    command: str, option: click.Option, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last one would win without a word. Nothing runs, and the error says what to do instead."""
    if option.multiple:
        assert option.opts[-1] in ("--step", "--param", "--rerun", "--import", "--expect", "--only")
        return
    short, long = option.opts[0], option.opts[-1]
    values = [] if option.is_flag else ["1"]

    code = main([*command.split(), short, *values, long, *values])

    error = capsys.readouterr().err.splitlines()[-1]  # --debug shows the traceback, too
    instead = "Remove one." if option.is_flag else "It takes one value: remove one, or run a command for each."
    assert (code, error) == (
        2,
        f"dotflow {command}: {long} is there 2 times. {instead} See 'dotflow {command} --help'.",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", "-w", "a:x", "-w", "b:y"],
        ["start", "-wa:x", "--workflow=b:y"],
        ["schedule", "-w", "a:x", "--cron", "@daily", "-w", "b:y", "--cron", "@hourly"],
        ["graph", "--workflow", "a:x", "extra", "--workflow", "b:y"],
    ],
)
def test_in_any_spelling(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Attached, after `=`, with another option between them."""
    assert main(arguments) == 2
    assert "--workflow is there 2 times. " in capsys.readouterr().err


def test_a_value_that_looks_like_an_option_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """`--callback -w` gives --callback the value `-w`."""
    assert main(["start", "--callback", "-w", "-w", "nowhere:x"]) == 2
    assert "is there" not in capsys.readouterr().err
