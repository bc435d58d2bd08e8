from tests.support.asyncapi import official
from tests.support.typescript import compiler

__all__ = ["compiler", "official"]
