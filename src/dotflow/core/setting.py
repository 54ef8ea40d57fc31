"""Setting: a run parameter that neither names a run nor is an input of its steps."""

from typing import Any

from dotflow.core.secret import check_no_secret


class Setting:
    """Declares a run parameter that changes how a run goes, and not what it makes: a budget, a level of detail.

    `DotFlow(params={"day": ..., "budget": Setting(50)})`: another budget is no other run, and a resume with it runs no
    finished step again. No cache key has it. A step takes it as any other run parameter, `--param budget=100` gives it,
    and the history has it with the run.

    Args:
        default: The default; `...` for none.

    Attributes:
        default: The default.

    Raises:
        InvalidArgument: The default is a Secret, which names no run either where it is not given.
    """

    __slots__ = ("default",)

    def __init__(self, default: Any) -> None:
        check_no_secret("default", default)
        self.default = default

    def __repr__(self) -> str:
        return f"Setting({'...' if self.default is ... else repr(self.default)})"
