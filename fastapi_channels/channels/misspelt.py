"""Settings that are written almost right: taken as they are, they would be silence."""

from __future__ import annotations

from collections.abc import Callable, Collection
from difflib import SequenceMatcher
from typing import Any, Final

from fastapi_channels.exceptions import ConfigurationError

ALIKE: Final = 0.85
"""How much of two names must agree (difflib's ratio) for one to be taken for the other."""
MEANT: Final = {"permission": "permission_classes", "permissions": "permission_classes"}
"""Names that are less alike, and that would leave open what was meant to be closed."""
LONG: Final = 9
"""Letters from which a name of another length is suspected too: many short words differ by one letter."""


def refuse_misspelt(cls: type, known: Collection[str], is_action: Callable[[Any], bool]) -> None:
    """Look at what `cls` itself defines.

    Args:
        known: the names of the settings and hooks.
        is_action: whether something is an action, which may have any name.

    Raises:
        ConfigurationError: a name is nearly one of the known; says which was meant.
    """
    for name, value in vars(cls).items():
        if name.startswith("_") or name in known or hasattr(cls.__mro__[1], name) or is_action(value):
            continue
        alike = {setting: _likeness(name, setting) for setting in known}
        meant = max(alike, key=alike.__getitem__)
        if alike[meant] >= ALIKE:
            raise ConfigurationError(
                f"{cls.__name__}.{name} is no setting, and nothing reads it: did you mean {meant!r}? "
                "If it is yours, give it a name that is less like it"
            )


def _likeness(name: str, setting: str) -> float:
    if MEANT.get(name.lower()) == setting:
        return 1.0
    if len(name) != len(setting) and len(setting) < LONG:
        return 0.0
    # A transposition costs a short name more of its likeness than a long one.
    return 1.0 if sorted(name) == sorted(setting) else SequenceMatcher(None, name, setting).ratio()
