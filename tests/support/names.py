"""Names of test cases that are the same in every process, so that several workers agree on what there is."""

import re


def stable(value: object) -> str:
    """The text of `value` without the address that Python puts into it."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
