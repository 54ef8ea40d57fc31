"""The one door through which time comes in.

Everybody calls `clock.now()`, `clock.monotonic()` through this module, never the functions behind it, so that
one replacement here moves all of dotflow into another time.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

#: The moment, as an aware datetime in UTC.
now: Callable[[], datetime] = partial(datetime.now, UTC)

#: Seconds on a clock that only ever goes forward; for spans, never for moments.
monotonic: Callable[[], float] = time.monotonic
