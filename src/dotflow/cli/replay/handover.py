"""A program that runs up to its first start(), which hands its workflow over instead of running it."""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

import click

from dotflow.cli.run.load import Loaded
from dotflow.errors import DotflowError
from dotflow.workflow import DotFlow


class HandedOver(BaseException):
    """Ends a program at its first start(). No `except Exception` of the program stops it."""


@contextmanager
def handover() -> Iterator[list[Loaded]]:
    """Within it, start(), astart(), launch() and schedule() of any workflow add it to the list, and raise HandedOver.

    HandedOver does not leave it.
    """
    handed: list[Loaded] = []

    def hand_over(workflow: DotFlow, params: Any) -> NoReturn:
        handed.append(Loaded(workflow, params or {}))
        raise HandedOver

    own = {name: vars(DotFlow)[name] for name in ("_prepare", "schedule")}
    replaced = {
        "_prepare": lambda self, mode, options, **more: hand_over(self, options.params),
        "schedule": lambda self, **arguments: hand_over(self, arguments.get("params")),
    }
    _set_methods(replaced)
    try:
        yield handed
    except HandedOver:
        pass
    finally:
        _set_methods(own)


def _set_methods(methods: dict[str, Any]) -> None:
    for name, method in methods.items():
        setattr(DotFlow, name, method)


def run_program(path: Path, module: str | None, argv: Sequence[str]) -> Loaded:
    """Runs a script up to its first start(), and returns its workflow with the parameters of the run.

    It stays the `__main__` of this process, in which its steps and classes are looked up.

    Args:
        path: The script.
        module: The module, if it was run by `python -m`.
        argv: Its sys.argv.

    Raises:
        ClickException: It raised an error, or ended without a start().
    """
    main = ModuleType("__main__")
    code = _prepare_script(main, path) if module is None else _prepare_module(main, module)
    sys.modules["__main__"] = main
    sys.argv = list(argv)
    name = path.name if module is None else module
    with handover() as handed:
        try:
            exec(code, vars(main))
        except DotflowError:  # in our words
            raise
        except (Exception, SystemExit) as error:  # the user's program
            if not handed:
                cause = f"{type(error).__name__}: {error}"
                raise click.ClickException(f"{name} raised {cause} before its first start().") from error
    if not handed:
        raise click.ClickException(f"{name} ended without a start().")
    return handed[0]


def _prepare_script(main: ModuleType, path: Path) -> CodeType:
    main.__file__ = str(path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        return compile(path.read_bytes(), path, "exec")
    except (OSError, SyntaxError, ValueError) as error:
        raise click.ClickException(f"Can't run {path.name}: {type(error).__name__}: {error}") from error


def _prepare_module(main: ModuleType, module: str) -> CodeType:
    try:
        spec = importlib.util.find_spec(module)
        code: CodeType | None = None if spec is None else spec.loader.get_code(module)  # type: ignore[union-attr]
    except (ImportError, SyntaxError, AttributeError) as error:
        raise click.ClickException(f"Can't run python -m {module}: {type(error).__name__}: {error}") from error
    if spec is None or code is None:
        raise click.ClickException(f"Can't run python -m {module}: there is no such module.")
    main.__spec__, main.__package__, main.__file__ = spec, spec.parent, spec.origin
    return code
