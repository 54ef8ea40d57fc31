"""A program that runs up to its first start(), which hands its workflow over instead of running it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import click

from dotflow.cli.load import Loaded
from dotflow.cli.replay.consent import is_own_place
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
        "_prepare": lambda self, options, **more: hand_over(self, options.params),
        "schedule": lambda self, **arguments: hand_over(self, arguments.get("params")),
    }
    try:
        for name, method in replaced.items():
            setattr(DotFlow, name, method)
        yield handed
    except HandedOver:
        pass
    finally:
        for name, method in own.items():
            setattr(DotFlow, name, method)


class Program(NamedTuple):
    """A script that has started a run, and how: *module* is its name if it was run by `python -m`."""

    path: Path
    module: str
    folder: str
    argv: Sequence[str]

    def run(self) -> Loaded:
        """Runs it up to its first start(), and returns the workflow and the parameters. Raises ClickException.

        It stays the `__main__` of this process, in which its steps and classes are looked up.
        """
        main = ModuleType("__main__")
        main.__file__ = str(self.path)
        if self.module:
            main.__spec__ = ModuleSpec(self.module, None, origin=main.__file__)
            main.__package__ = main.__spec__.parent
        self.make_importable()
        sys.modules["__main__"] = main
        sys.argv = list(self.argv)
        with handover() as handed:
            try:
                exec(compile(self.path.read_bytes(), self.path, "exec"), vars(main))
            except DotflowError:  # in our words
                raise
            except (Exception, SystemExit) as error:  # the user's program
                if not handed:
                    cause = f"raised {type(error).__name__}: {error}"
                    raise self._without_start(cause) from error
        if not handed:
            raise self._without_start("ended")
        return handed[0]

    def _without_start(self, cause: str) -> click.ClickException:
        what = f"Can't find the workflow of the step: {self.path.name} {cause} before a start()."
        return click.ClickException(f"{what} Mend that, or pass --workflow.")

    @property
    def is_own(self) -> bool:
        """Whether it and the folder of its modules are in the current one."""
        return is_own_place(self.path) and is_own_place(self._importable)

    @property
    def _importable(self) -> str:
        """The folder whose modules it could import."""
        return self.folder if self.module else str(self.path.parent)

    def make_importable(self) -> None:
        """Makes the modules importable that were so in the program; of a folder that only the history names, none."""
        folder = self._importable
        if folder not in sys.path and (not self.module or is_own_place(folder)):
            sys.path.insert(0, folder)
