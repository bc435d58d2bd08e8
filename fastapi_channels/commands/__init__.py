"""The commands of the command line, a module each. Each has `add`, which tells the parser of it."""
