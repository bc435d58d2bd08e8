"""Who did what, and who was not let in: a line in the log for each; and what was asked for wrongly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.signatures.dependencies import told
from fastapi_channels.wire.messages import decode_json

logger = logging.getLogger("fastapi_channels.admin")

NO_JSON = "the body is to be JSON, and to be said to be: Content-Type: application/json"
MAX_PATH = 300
"""Characters of a path that the log is told."""


class Strict(Request):
    """Takes for JSON what RFC 8259 does: what else Python reads, such as a lone surrogate, no message can
    carry."""

    async def json(self) -> Any:
        try:
            return decode_json(await self.body())
        except ValueError as exc:
            raise HTTPException(422, f"the body is no JSON: {exc}") from exc


class Guarded(APIRoute):
    """A route that tells the log whom it did not let in.

    Attributes:
        address_of: who asks, as far as the server knows; set by whoever makes the routes.
    """

    address_of: Callable[[Request], str]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handle(Strict(request.scope, request.receive))
            except RequestValidationError as exc:  # FastAPI would answer with the values, if JSON has them
                if isinstance(exc.body, bytes):
                    raise HTTPException(422, NO_JSON) from exc
                raise HTTPException(422, told(exc.errors())) from exc
            except HTTPException as exc:
                if exc.status_code in (401, 403):
                    # Paths hold what anybody may have written: as a repr, no line can be forged with it.
                    path = request.url.path[:MAX_PATH]
                    logger.warning(
                        "%s is not let in: %d for %s %r",
                        self.address_of(request),
                        exc.status_code,
                        request.method,
                        path,
                    )
                raise

        return guarded


@contextmanager
def acting(by: Any, what: str) -> Iterator[None]:
    """What is done within is logged, also where it fails."""
    try:
        with answered():
            yield
    except Exception as exc:
        logger.warning("%s %s, and it fails: %s", by, what, getattr(exc, "detail", exc))
        raise
    except BaseException:  # the client has gone, or the process ends: some of it may have been done
        logger.warning("%s %s, and it is broken off", by, what)
        raise
    logger.warning("%s %s", by, what)  # so that it is there whatever logging was told


@contextmanager
def answered() -> Iterator[None]:
    """What was asked for wrongly is answered so."""
    try:
        yield
    except ConfigurationError as exc:
        raise HTTPException(422, str(exc)) from exc
    except ValidationError as exc:  # its text has the values, which are no concern of the log
        raise HTTPException(422, told(exc.errors())) from exc
