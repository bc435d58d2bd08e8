"""Read by mypy and pyright, never run: what a channel's codec may be."""

from typing import Any

from fastapi_channels import BaseChannel, Channel


class Static(Channel):
    @staticmethod
    def decode_json(text: str) -> dict[str, str]:
        return {"action": "say", "text": text}

    @staticmethod
    def encode_json(data: Any) -> str:
        return str(data)


class Plain(BaseChannel):
    def decode_json(self, message: str | bytes) -> list[Any]:
        return [message]


class Async(Channel):
    async def decode_json(self, message: str | bytes) -> Any:
        return await super().decode_json(message)

    async def encode_json(self, data: Any) -> bytes:
        return b""
