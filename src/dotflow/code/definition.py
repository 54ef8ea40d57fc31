"""Where a step is defined, read from the source: nothing is imported."""

import ast
from pathlib import Path
from typing import Final

from dotflow.code.own_code import file_of
from dotflow.core.failure import relative_path

DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def definition_of(identity: str, program: str | None = None) -> str:
    """Returns the file and the line at which a step is defined today: `jobs.py:12`; "" where that is unknown.

    Args:
        identity: The step, `module:qualname`.
        program: The file of the module `__main__`.
    """
    module, _, qualname = identity.partition(":")
    file = program if module == "__main__" else file_of(module)
    if file is None or not file.endswith(".py"):
        return ""
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    line = 0
    for name in qualname.replace("<locals>.", "").split("."):
        found = [node for node in body if name in _names_of(node)]
        if not found:
            return ""
        line, body = found[-1].lineno, getattr(found[-1], "body", [])
    return f"{relative_path(file)}:{line}"


def _names_of(statement: ast.stmt) -> list[str]:
    """Returns the names that a statement defines."""
    if isinstance(statement, DEFINITIONS):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
