"""What a handler's signature means."""
