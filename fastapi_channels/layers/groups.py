"""Which channels are in which group."""

from __future__ import annotations

import time
from collections.abc import Callable


class Groups:
    """The groups of the channels of one process.

    Args:
        expiry: seconds that a channel stays, from when it was added last.
    """

    def __init__(self, expiry: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._expiry = expiry
        self._clock = clock
        self._members: dict[str, dict[str, float]] = {}
        self._groups_of: dict[str, set[str]] = {}
        self._sweep_at = 0.0

    def __contains__(self, group: str) -> bool:
        return group in self._members

    @property
    def names(self) -> list[str]:
        """Groups that have a channel."""
        return list(self._members)

    def add(self, group: str, channel: str) -> None:
        self._members.setdefault(group, {})[channel] = self._clock() + self._expiry
        self._groups_of.setdefault(channel, set()).add(group)

    def discard(self, group: str, channel: str) -> bool:
        """Take a channel out; whether that leaves the group empty."""
        members = self._members.get(group, {})
        if members.pop(channel, None) is None:
            return False
        groups = self._groups_of[channel]
        groups.discard(group)
        if not groups:
            del self._groups_of[channel]
        if not members:
            del self._members[group]
        return not members

    def members(self, group: str) -> list[str]:
        """The channels in a group, of which those that have stayed too long are taken out."""
        now = self._clock()
        members = self._members.get(group, {})
        for channel in [channel for channel, until in members.items() if until <= now]:
            self.discard(group, channel)
        return list(members)

    def sweep(self) -> list[str]:
        """Take out who has stayed too long, also of groups that nobody sends to, once in each `expiry`; the
        groups that are empty now."""
        now = self._clock()
        if now < self._sweep_at:
            return []
        self._sweep_at = now + self._expiry
        return [group for group in self.names if not self.members(group)]

    def forget(self, channel: str) -> list[str]:
        """Take a channel out of all its groups; those that are empty now."""
        return [group for group in list(self._groups_of.get(channel, ())) if self.discard(group, channel)]

    def clear(self) -> list[str]:
        """Take all channels out; the groups that were there."""
        names = self.names
        self._members.clear()
        self._groups_of.clear()
        return names
