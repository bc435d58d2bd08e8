"""One process of an application, and the others."""
