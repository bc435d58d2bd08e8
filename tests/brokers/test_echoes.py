"""Own publications that are still to come back."""

from __future__ import annotations

import asyncio

from fastapi_channels.brokers.echoes import Echoes


async def test_each_ends_with_its_own():
    echoes = Echoes()
    first, other = echoes.expect("tea", "one"), echoes.expect("tea", "two")
    echoes.take("tea", "two")
    assert (first.done(), other.done()) == (False, True)
    assert echoes
    echoes.take("tea", "one")
    assert first.done()
    assert not echoes
    assert not echoes._waiting


async def test_of_two_alike_the_first_ends_first():
    echoes = Echoes()
    first, second = echoes.expect("tea", "one"), echoes.expect("tea", "one")
    echoes.take("tea", "one")
    assert (first.done(), second.done()) == (True, False)


async def test_what_nobody_expects():
    echoes = Echoes()
    first = echoes.expect("tea", "one")
    echoes.take("tea", "two")
    echoes.take("coffee", "one")
    assert not first.done()


async def test_who_gives_up_is_not_waited_for():
    echoes = Echoes()
    first, second = echoes.expect("tea", "one"), echoes.expect("tea", "one")
    echoes.forget("tea", "one", second)
    echoes.forget("tea", "one", second)
    echoes.forget("coffee", "one", second)
    assert not first.done()
    first.cancel()
    echoes.forget("tea", "one", first)
    assert not echoes._waiting


async def test_what_cannot_come_any_more_is_not_waited_for():
    echoes = Echoes()
    tea, coffee = echoes.expect("tea", "one"), echoes.expect("coffee", b"one")
    echoes.give_up("tea")
    assert (tea.done(), coffee.done()) == (True, False)
    echoes.give_up_all()
    await asyncio.wait_for(coffee, 30)
    assert not echoes._waiting
