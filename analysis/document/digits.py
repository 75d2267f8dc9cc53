"""Numbers in files, with the digits on which processors agree.

They add in different orders, and so differ in the last of the 17 digits of a float. A committed report must be the same
everywhere.
"""

import math
from typing import Any

DIGITS = 8


def plain(value: Any) -> Any:
    """Return JSON values with DIGITS significant digits; a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
