"""What travels, and the way in and out of one WebSocket."""
