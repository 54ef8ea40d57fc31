"""Reporter: lines about the run itself, for its log."""

from collections.abc import Callable

from dotflow.abc.log import Log
from dotflow.core.failure import Failure
from dotflow.core.masks import NO_MASKS, Masks


def reporter(log: Log, masks: Masks = NO_MASKS) -> Callable[[str, BaseException | None], None]:
    """Returns a function that writes masked lines into *log*, or into Python's own logging where the log raises."""

    def report(message: str, error: BaseException | None = None) -> None:
        if error is not None:
            message = f"{message}, which changes nothing in the run:\n{Failure.of(error).traceback}"
        message = masks.mask(message)
        try:
            log.report(message)
        except (Exception, SystemExit) as broken:  # the user's code, and the last chance to report it
            own = f"The log's own report raised {type(broken).__name__}: {broken}"
            Log.report(log, f"{message}\n{masks.mask(own)}")

    return report
