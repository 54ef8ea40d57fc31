"""Resources: what a step's worker in a cluster must have."""

import math
from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import InvalidPolicy

NO_RESOURCES: Final[Mapping[str, float]] = {}


def check_resources(resources: Any) -> Mapping[str, float]:
    """What @action was told, in a dictionary of its own; none for None. Raises InvalidPolicy where it means nothing."""
    if resources is None:
        return NO_RESOURCES
    if not isinstance(resources, Mapping) or not all(
        isinstance(name, str) and name and type(amount) in (int, float) and 0 < amount < math.inf
        for name, amount in resources.items()
    ):
        raise InvalidPolicy("resources", resources, 'a mapping of names to amounts above 0, such as {"GPU": 1}')
    return dict(resources)
