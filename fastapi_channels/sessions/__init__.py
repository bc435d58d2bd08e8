"""The life of one WebSocket: from the handshake to the last leave handler."""
