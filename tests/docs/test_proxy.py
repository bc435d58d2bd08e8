"""The site of docs/proxy.md, in a real nginx with TLS."""

import ssl
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trustme
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from fastapi_channels import Channel, Connection, action, add_channel
from tests.docs.test_docs import blocks
from tests.support.events import Events
from tests.support.live import DEADLINE, Client, serving
from tests.support.nginx import Nginx
from tests.support.servers import required

DOCS: Final = Path(__file__).parents[2] / "docs"


def before(upstream: int, site: str, authority: trustme.CA) -> Nginx:
    """An nginx with what the page shows, in front of a port."""
    nginx = Nginx()
    certificate = authority.issue_cert("chat.example.com")
    certificate.private_key_and_cert_chain_pem.write_to_path(nginx.folder / "chat.pem")
    for shown, real in (
        ("listen 443 ssl", f"listen 127.0.0.1:{nginx.port} ssl"),
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
        ("/etc/ssl/chat.pem", f"{nginx.folder}/chat.pem"),
        ("/etc/ssl/chat.key", f"{nginx.folder}/chat.pem"),
    ):
        assert shown in site
        site = site.replace(shown, real)
    nginx.configure(site)
    return nginx


class Room(Channel):
    @action()
    async def where(self, connection: Connection) -> list[str | None]:
        return [connection.address, str(connection.websocket.url.scheme)]

    @action()
    async def say(self, connection: Connection) -> None:
        await self.broadcast(connection.room, "said")


async def collects_nothing(port: int, own: str, trust: ssl.SSLContext) -> None:
    """An event comes through when it is sent: nginx does not wait for more of them."""
    options: dict[str, Any] = {"headers": {"host": own}, "extensions": {"sni_hostname": "chat.example.com"}}
    async with (
        httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=DEADLINE) as http,
        http.stream("GET", "/lobby/events", **options) as response,
    ):
        events = Events(response)
        while events.reader.retry is None:
            await events.read_on()
        assert (await http.post("/lobby/actions/say", **options)).status_code == 204
        assert (await events.frame())["event"] == "said"


@required(Nginx)
@pytest.mark.parametrize("folder", [DOCS, DOCS / "zh"], ids=["en", "zh"])
async def test_a_page_comes_through_nginx(folder: Path):
    text = (folder / "proxy.md").read_text()
    site = next(block.source for block in blocks(text) if block.language == "nginx")
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/{channel}", sse=True, http=True)
    async with serving(app, may_complain=True) as served:
        with before(served.port, site, authority) as nginx:
            own = f"chat.example.com:{nginx.port}"

            def page(origin: str) -> connect:
                return connect(
                    f"wss://{own}/lobby",
                    host="127.0.0.1",
                    port=nginx.port,
                    ssl=trust,
                    origin=Origin(origin),
                    local_addr=("127.0.0.2", 0),
                    proxy=None,
                )

            async with page(f"https://{own}") as opened:
                assert (await Client(opened).call("where"))["data"] == ["127.0.0.2", "wss"]
            await collects_nothing(nginx.port, own, trust)
            with pytest.raises(InvalidStatus) as refusal:
                async with page("https://evil.example"):
                    pass
            assert refusal.value.response.status_code == 403
