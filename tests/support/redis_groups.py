"""Redis servers that know of each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self, TypeVar

import pytest

from .servers import RedisServer, SentinelServer, free_port, wait_until

SLOTS = 16384
PATIENCE = 60.0
"""Seconds in which no server is given up, however busy the machine is."""
G = TypeVar("G", bound="RedisGroup")


class RedisGroup(ABC):
    """A context manager that starts and stops servers."""

    def __init__(self) -> None:
        self._started = ExitStack()

    def _start(self, server: RedisServer) -> None:
        self._started.enter_context(server)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._started = stack
            self.begin()
            self._started = stack.pop_all()
        return self

    @abstractmethod
    def begin(self) -> None: ...

    def __exit__(self, *exc_info: object) -> None:
        self._started.close()


class RedisCluster(RedisGroup):
    """
    Args:
        masters: how many, each with as many slots.
        replicas: of the first master.
        patience: seconds until the others give up one that is silent.
    """

    def __init__(self, masters: int, replicas: int = 0, *, patience: float = PATIENCE) -> None:
        super().__init__()
        self._patience = patience
        self.masters = [self._node() for _ in range(masters)]
        self.replicas = [self._node() for _ in range(replicas)]

    def _node(self) -> RedisServer:
        patience = ("--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0")
        cluster = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
        return RedisServer(*cluster, *patience, "--repl-diskless-sync-delay", "0")

    @property
    def nodes(self) -> list[RedisServer]:
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def begin(self) -> None:
        for number, node in enumerate(self.nodes):
            self._start(node)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        size = SLOTS // len(self.masters) + 1
        for number, node in enumerate(self.masters):
            last = min(SLOTS, (number + 1) * size) - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(number * size), str(last))
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), self._bus(node))
        wait_until(lambda: all(self.whole(node) for node in self.nodes), "the cluster has met")
        for replica in self.replicas:
            replica.ask("CLUSTER", "REPLICATE", self.masters[0].ask("CLUSTER", "MYID"))
        wait_until(lambda: all(map(self._follows, self.replicas)), "the replicas follow")
        for node in self.nodes:
            node.ask("CONFIG", "SET", "cluster-node-timeout", f"{self._patience * 1000:.0f}")

    def whole(self, node: RedisServer) -> bool:
        """Whether `node` knows all others, and that every slot is served."""
        info = node.ask("CLUSTER", "INFO")
        return "cluster_state:ok" in info and f"cluster_known_nodes:{len(self.nodes)}" in info

    def owner(self, slot: int) -> RedisServer:
        """The master of `slot`, as the master itself sees it."""
        return next(node for node in self.masters if slot in self._slots(node))

    def move(self, slot: int, target: RedisServer) -> None:
        """Give an empty slot to `target`, in the way that lets the others believe it."""
        source, number = self.owner(slot), str(slot)
        target.ask("CLUSTER", "SETSLOT", number, "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", number, "MIGRATING", target.ask("CLUSTER", "MYID"))
        # Each is told once: what is told again that a slot is its own ends the subscriptions there.
        for node in (target, *(each for each in self.masters if each is not target)):
            node.ask("CLUSTER", "SETSLOT", number, "NODE", target.ask("CLUSTER", "MYID"))

    def _slots(self, node: RedisServer) -> set[int]:
        """Of the line about itself: `<id> … myself,master … connected 0-5461 6000`."""
        own = next(line for line in node.ask("CLUSTER", "NODES").splitlines() if "myself" in line)
        ranges = [part.split("-") for part in own.split()[8:] if not part.startswith("[")]
        return {slot for ends in ranges for slot in range(int(ends[0]), int(ends[-1]) + 1)}

    def _bus(self, node: RedisServer) -> str:
        return node.ask("CONFIG", "GET", "cluster-port").splitlines()[1]

    def _follows(self, replica: RedisServer) -> bool:
        return "master_link_status:up" in replica.ask("INFO", "replication")


class RedisFailover(RedisGroup):
    """A master with its replica, and sentinels that know both.

    Args:
        sentinels: how many.
        patience: seconds until they give up a master that is silent.
    """

    def __init__(self, sentinels: int, *, patience: float = PATIENCE) -> None:
        super().__init__()
        self._patience = f"{patience * 1000:.0f}"
        self.master = RedisServer()
        self.replica = RedisServer(
            "--replicaof", "127.0.0.1", str(self.master.port), "--repl-diskless-sync-delay", "0"
        )
        self.sentinels = [SentinelServer(self.master, sentinels // 2 + 1) for _ in range(sentinels)]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)}/main"

    def begin(self) -> None:
        self._start(self.master)
        self._start(self.replica)
        wait_until(lambda: "master_link_status:up" in self.replica.ask("INFO", "replication"), "it follows")
        for sentinel in self.sentinels:
            self._start(sentinel)
        wait_until(lambda: all(map(self._is_ready, self.sentinels)), "the sentinels know all")
        for sentinel in self.sentinels:
            sentinel.ask("SENTINEL", "SET", "main", "down-after-milliseconds", self._patience)

    def _is_ready(self, sentinel: RedisServer) -> bool:
        words = sentinel.ask("SENTINEL", "MASTER", "main").splitlines()
        known = dict(zip(words[::2], words[1::2], strict=False))
        return (known.get("num-slaves"), known.get("num-other-sentinels")) == (
            "1",
            str(len(self.sentinels) - 1),
        )


def together(group: G) -> Iterator[G]:
    """For a fixture: the servers while they are used; the test is skipped where Redis is not installed."""
    if not RedisServer.installed():
        pytest.skip(f"{RedisServer.binary} is not on PATH")
    with group:
        yield group
