from tests.support.asyncapi import official

__all__ = ["official"]
