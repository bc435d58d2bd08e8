"""The site of docs/proxy.md, in a real nginx with TLS."""

import socket
import ssl
from collections.abc import Sequence
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
from tests.support.servers import Server, required

DOCS: Final = Path(__file__).parents[2] / "docs"


class Nginx(Server):
    """
    Args:
        site: what the page shows.
        upstream: the port of the application.
    """

    binary = "nginx"

    def __init__(self, site: str, upstream: int, authority: trustme.CA) -> None:
        super().__init__()
        certificate = authority.issue_cert("chat.example.com")
        certificate.private_key_and_cert_chain_pem.write_to_path(self.folder / "chat.pem")
        for shown, real in (
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
            ("/etc/ssl/chat.pem", f"{self.folder}/chat.pem"),
            ("/etc/ssl/chat.key", f"{self.folder}/chat.pem"),
        ):
            assert shown in site
            site = site.replace(shown, real)
        settings = f"daemon off; pid {self.folder}/pid; events {{}} http {{ access_log off; {site} }}"
        (self.folder / "nginx.conf").write_text(settings)

    def command(self) -> Sequence[str]:
        return ("nginx", "-c", f"{self.folder}/nginx.conf", "-e", f"{self.folder}/errors")

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True


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
        with Nginx(site, served.port, authority) as nginx:
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
