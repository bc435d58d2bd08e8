"""A WebSocket protocol for uvicorn: `uvicorn app:app --ws fastapi_channels.uvicorn:Protocol`.

It answers the handshake itself, and reads and writes plain frames by the port. All else, a ping, a fragment,
a close, is read by `websockets`, in an object that exists only as long as anything of it is open.
Applications see what uvicorn's own protocol shows them. docs/deployment.md says when to use it, and what
differs.
"""

from .deflate import DeflateProtocol
from .protocol import Protocol

__all__ = ["DeflateProtocol", "Protocol"]
