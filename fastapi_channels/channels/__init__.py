"""What users subclass and mount."""

from .base import BaseChannel
from .channel import Channel

__all__ = ["BaseChannel", "Channel"]
