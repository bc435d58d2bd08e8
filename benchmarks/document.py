"""What the document of 200 actions costs: `python -m benchmarks.document`.

It is made once, when it is first asked for, as are its YAML and the page: so each round has an application of
its own. The time is that of the processor, which other programs do not lengthen as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from fastapi import FastAPI
from pydantic import create_model

from fastapi_channels import Channel, action, add_channel
from fastapi_channels.contract import page
from fastapi_channels.contract.document import document, encoded
from fastapi_channels.contract.serving import as_yaml

ACTIONS: Final = 200
ROUNDS: Final = 7
LINKS: Final = {"files": "files", "json": "asyncapi.json", "root": "."}


def application() -> FastAPI:
    """An action for each number, with two models of its own."""
    handlers = {f"a{number}": _action(number) for number in range(ACTIONS)}
    app = FastAPI()
    add_channel(app)
    type("Large", (Channel,), handlers)().mount(app, "/{channel}")
    return app


def _action(number: int) -> Any:
    taken = create_model(f"Taken{number}", text=(str, ...), count=(int, 0))
    given = create_model(f"Given{number}", id=(int, ...), text=(str, ...))

    async def handle(self: Any, data: Any) -> Any: ...

    handle.__annotations__ = {"data": taken, "return": given}
    return action(f"a{number}")(handle)


def written(app: FastAPI) -> tuple[dict[str, Any], bytes]:
    told = document(app)
    return told, encoded(told)


def timed(make: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    began = time.process_time()
    made = make(*given)
    return made, 1000 * (time.process_time() - began)


def main() -> None:
    found: dict[str, list[float]] = {"document": [], "YAML": [], "page": []}
    size = 0
    for _ in range(ROUNDS):
        (told, body), spent = timed(written, application())
        size = len(body)
        found["document"].append(spent)
        found["YAML"].append(timed(as_yaml, body)[1])
        found["page"].append(timed(page.render, told, "en", LINKS)[1])
    print(f"{ACTIONS} actions, {size / 1000:.0f} kB of JSON; ms of CPU: median (least to most) of {ROUNDS}")
    for name, times in found.items():
        print(f"{name:10}{median(times):6.0f} ({min(times):.0f} to {max(times):.0f})")


if __name__ == "__main__":
    main()
