"""Resources: the requirements of a step on its worker in a cluster."""

import math
from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import InvalidPolicy

NO_RESOURCES: Final[Mapping[str, float]] = {}


def check_resources(resources: Any) -> Mapping[str, float]:
    """Returns a copy of the resources; an empty mapping for None. Raises InvalidPolicy for invalid ones."""
    if resources is None:
        return NO_RESOURCES
    if not isinstance(resources, Mapping) or not all(
        isinstance(name, str) and name and type(amount) in (int, float) and 0 < amount < math.inf
        for name, amount in resources.items()
    ):
        raise InvalidPolicy("resources", resources, 'a mapping of names to amounts above 0, such as {"GPU": 1}')
    return dict(resources)
