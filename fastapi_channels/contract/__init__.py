"""What an application promises its clients, written down: an AsyncAPI 3.0 document."""
