"""Step 10: the tests. `python -m pytest example/tutorial/step10.py` runs them."""

from example.tutorial.step09 import Announced, Said, app
from fastapi_channels.testing import Client, Site, refused, running


async def enter(site: Site, token: str) -> Client:
    """Somebody who is in the lobby."""
    client = await site.client("/chat", headers={"Authorization": f"Bearer {token}"})
    await client.join("room:lobby")
    return client


async def test_everybody_hears_it() -> None:
    async with running(app) as site:
        ada, bob = await enter(site, "ada-secret"), await enter(site, "bob-secret")
        await ada.call("say", text="Hello!", room="room:lobby")
        for client in (ada, bob):
            assert await client.expect(Said) == Said(by="ada", text="Hello!")


async def test_only_moderators_announce() -> None:
    async with running(app) as site:
        ada, bob = await enter(site, "ada-secret"), await enter(site, "bob-secret")
        no = await refused(bob.call("announce", text="I am king", room="room:lobby"))
        assert no.code == "permission_denied"
        await ada.call("announce", text="Tea is ready", room="room:lobby")
        assert await bob.expect(Announced) == Announced(text="Tea is ready")


async def test_three_in_ten_seconds_are_enough() -> None:
    async with running(app) as site:
        bob = await enter(site, "bob-secret")
        for number in range(3):
            await bob.call("say", text=str(number), room="room:lobby")
        no = await refused(bob.call("say", text="and on", room="room:lobby"))
        assert no.code == "rate_limited"


async def test_a_room_for_two_is_closed_to_others() -> None:
    async with running(app) as site:
        bob = await enter(site, "bob-secret")
        assert (await refused(bob.join("direct:ada:eve"))).code == "permission_denied"
        await bob.join("direct:ada:bob")
