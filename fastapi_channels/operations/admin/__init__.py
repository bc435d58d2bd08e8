"""Operating an application by HTTP: routes for operators, and a page for those of them who have a browser."""

from .admin import Admin

__all__ = ["Admin"]
