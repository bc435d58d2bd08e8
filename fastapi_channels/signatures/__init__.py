"""What a function asks for, and how it gets it."""
