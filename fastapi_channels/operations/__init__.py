"""Operating an application: nothing of it is there that nobody asked for."""
