"""Filters by their levels: who wants to know which of them a topic fits looks at no other."""

from __future__ import annotations

from typing import Generic, TypeVar

from .names import ONE, OWN, REST, SEPARATOR

V = TypeVar("V")


class _Node(Generic[V]):
    """What all filters have that begin with the same levels."""

    __slots__ = ("further", "values")

    def __init__(self) -> None:
        self.further: dict[str, _Node[V]] | None = None
        """By the next level; None where there is none: most filters end in a node of their own."""
        self.values: tuple[V, ...] = ()
        """The value of the filter that ends here, if one does."""


class Trie(Generic[V]):
    """Filters, each with a value.

    A match costs with the levels of the topic, and with the filters that begin as it does; not with how many
    there are.
    """

    __slots__ = ("_count", "_root")

    def __init__(self) -> None:
        self._root: _Node[V] = _Node()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, filter: str, value: V) -> None:
        """Let `filter`, which is valid, have that value."""
        node = self._root
        for level in filter.split(SEPARATOR):
            if node.further is None:
                node.further = {}
            following = node.further.get(level)
            if following is None:
                following = node.further[level] = _Node()
            node = following
        self._count += not node.values
        node.values = (value,)

    def remove(self, filter: str) -> None:
        """Forget `filter`; nothing happens if it is not there."""
        path: list[tuple[dict[str, _Node[V]], str]] = []
        node = self._root
        for level in filter.split(SEPARATOR):
            if node.further is None or level not in node.further:
                return
            path.append((node.further, level))
            node = node.further[level]
        self._count -= bool(node.values)
        node.values = ()
        for further, level in reversed(path):
            if further[level].values or further[level].further:
                return
            del further[level]

    def match(self, topic: str) -> list[V]:
        """The values of the filters that `topic`, which is valid, fits."""
        found: list[V] = []
        nodes = [self._root]
        wild = not topic.startswith(OWN)
        for level in topic.split(SEPARATOR):
            following: list[_Node[V]] = []
            for node in nodes:
                further = node.further
                if not further:
                    continue
                if (exact := further.get(level)) is not None:
                    following.append(exact)
                if wild:
                    if (one := further.get(ONE)) is not None:
                        following.append(one)
                    if (rest := further.get(REST)) is not None:
                        found += rest.values
            nodes, wild = following, True
        for node in nodes:
            found += node.values
            # What ends in # is also for the level above it.
            if node.further and (rest := node.further.get(REST)) is not None:
                found += rest.values
        return found
