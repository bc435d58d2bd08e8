"""Clients of others in Python: `python clients_.py KIND URL ROOMS EVENTS` prints the bytes that one takes, of
so many rooms; or, for none, the seconds of CPU that so many events take."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false, reportGeneralTypeIssues=false

import asyncio
import gc
import os
import sys
import time


def memory():
    """Bytes that are this process's own."""
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        return sum(1024 * int(line.split()[1]) for line in file if line.startswith("Private_"))


async def socketio_(url):
    import socketio

    client = socketio.AsyncClient(reconnection=False)
    await client.connect(url, transports=["websocket"])

    def listen(heard):
        client.on("said", lambda data: heard(data["number"]))

    return listen, lambda count: client.emit("flood", count)


async def centrifuge_(url):
    import centrifuge

    heard_by = []

    class Handler(centrifuge.SubscriptionEventHandler):
        async def on_publication(self, ctx):
            for heard in heard_by:
                heard(ctx.pub.data["number"])

    client = centrifuge.Client(url.replace("http", "ws") + "/connection/websocket")
    subscription = client.new_subscription("room", events=Handler())
    await client.connect()
    await subscription.subscribe()
    await subscription.ready()
    return heard_by.append, lambda count: subscription.publish({"count": count})


async def main(kind, url, rooms, events):
    make = {"socketio": socketio_, "centrifuge": centrifuge_}[kind]
    first = await make(url)
    begun = memory()
    clients = [await make(url) for _ in range(rooms or 1)]
    if rooms:
        return (memory() - begun) / rooms
    listen, flood = clients[0]
    over = asyncio.Event()
    listen(lambda number: over.set() if number == events - 1 else None)
    begun = time.process_time()
    assert first is not listen
    await flood(events)
    await over.wait()
    return time.process_time() - begun


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:3], *map(int, sys.argv[3:5]))), flush=True)
    os._exit(0)  # some of them hold the process
