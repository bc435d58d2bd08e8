"""Settings that are written almost right: taken as they are, they would be silence."""

from __future__ import annotations

from collections.abc import Callable, Collection
from difflib import SequenceMatcher
from typing import Any, Final

from fastapi_channels.exceptions import ConfigurationError

ALIKE: Final = 0.85
"""How much of two names must agree (difflib's ratio) for one to be taken for the other."""
MEANT: Final = {
    **dict.fromkeys(("permission", "permissions", "perms"), "permission_classes"),
    **dict.fromkeys(("authorization", "authorisation", "autorise"), "authorize"),
    "authentication_classes": "authenticator",
}
"""Names that are less alike, and that would leave open what was meant to be closed."""
LONG: Final = 9
"""Letters from which a name of any length is suspected. Many shorter words differ by one letter: of these,
what lacks one, or has it twice."""


def refuse_misspelt(cls: type, base: type, known: Collection[str], is_action: Callable[[Any], bool]) -> None:
    """Look at what `cls` itself defines, and what is mixed into it.

    Args:
        base: the class of ours that reads the settings; those between have been looked at.
        known: the names of the settings and hooks.
        is_action: whether something is an action, which may have any name.

    Raises:
        ConfigurationError: a name is nearly one of the known; says which was meant. Or it is one of them, and
            that of `base` hides it.
    """
    parents = [parent for parent in cls.__bases__ if issubclass(parent, base)]
    mixed_in = [each for each in cls.__mro__ if not (issubclass(each, base) or issubclass(base, each))]
    for written in (cls, *mixed_in):
        for name, value in vars(written).items():
            if name.startswith("_") or is_action(value):
                continue
            where = f"{written.__name__}.{name}"
            if name in known:
                _refuse_hidden(where, name, cls, base)
            elif not any(hasattr(parent, name) for parent in parents):
                _refuse_alike(where, name, known)


def _refuse_hidden(where: str, name: str, cls: type, base: type) -> None:
    found = next(each for each in cls.__mro__ if name in vars(each))
    if issubclass(base, found):
        raise ConfigurationError(
            f"{where} is not read, that of {found.__name__} comes before it: name its class first "
            f"among the bases of {cls.__name__}"
        )


def _refuse_alike(where: str, name: str, known: Collection[str]) -> None:
    alike = {setting: _likeness(name.lower(), setting) for setting in known}
    meant = max(alike, key=alike.__getitem__)
    if alike[meant] >= ALIKE:
        raise ConfigurationError(
            f"{where} is no setting, and nothing reads it: did you mean {meant!r}? "
            "If it is yours, give it a name that is less like it"
        )


def _likeness(name: str, setting: str) -> float:
    if MEANT.get(name) == setting:
        return 1.0
    if len(name) != len(setting) and len(setting) < LONG:
        return 1.0 if name in _slips(setting) else 0.0
    # A transposition costs a short name more of its likeness than a long one.
    return 1.0 if sorted(name) == sorted(setting) else SequenceMatcher(None, name, setting).ratio()


def _slips(setting: str) -> set[str]:
    """The setting without one of its letters, or with one twice."""
    places = range(len(setting))
    return {setting[:at] + setting[at + 1 :] for at in places} | {
        setting[:at] + setting[at] + setting[at:] for at in places
    }
