"""What the signal module wraps: it turns numbers into enums, which takes longer than the calls themselves."""

import _signal  # type: ignore[import-not-found]
import signal
from collections.abc import Callable, Iterable
from typing import Any, Final

set_handler: Final[Callable[[int, Any], Any]] = _signal.signal
get_handler: Final[Callable[[int], Any]] = _signal.getsignal
#: A system without it never calls this, but it imports this module.
set_mask: Final[Callable[[int, Iterable[int]], set[int]]] = getattr(_signal, "pthread_sigmask", lambda how, mask: set())
SIG_DFL: Final[Any] = _signal.SIG_DFL  # the enum's member is no handler to these functions
ALL: Final = frozenset(map(int, signal.valid_signals()))
