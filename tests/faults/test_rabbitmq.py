"""What only RabbitMQ does: it stops to take messages, and says so."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_channels.brokers import create_backend
from fastapi_channels.exceptions import BrokerUnavailable
from tests.support.brokers import Process, running
from tests.support.servers import RabbitServer


async def test_a_server_short_of_memory_is_not_a_dead_one(mortal_rabbit: RabbitServer):
    process = Process(create_backend(mortal_rabbit.url), publish_timeout=1)
    async with running(process):
        await process.broker.subscribe("room")
        await asyncio.to_thread(mortal_rabbit.control, "set_vm_memory_high_watermark", "0")
        with pytest.raises(BrokerUnavailable, match="did not answer in time"):
            await process.publish("room", "the server says that it is blocked")
        await asyncio.sleep(6)  # longer than a silent server is trusted
        await process.broker.subscribe("other")
        assert process.changes == [True]
        await asyncio.to_thread(mortal_rabbit.control, "set_vm_memory_high_watermark", "0.9")
        await process.drained("other")
        assert process.changes == [True]
