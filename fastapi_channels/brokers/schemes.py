"""What serves the URLs of each scheme."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from fastapi_channels.exceptions import ConfigurationError

T = TypeVar("T")


class Scheme(NamedTuple):
    """What serves the URLs of one scheme."""

    module: str
    """With a class that takes the URL, relative to the package that knows it; empty where there is none."""
    kind: str = ""
    extra: str = ""
    """Which has the client library."""
    package: str = "fastapi-channels"
    """Whose extra it is."""


def create(url: str, scheme: Scheme, package: str, **options: Any) -> Any:
    """An object of the class of `scheme` in `package`, for `url`; its module is imported only now.

    Raises:
        ConfigurationError: as `read`.
    """

    def make(url: str) -> Any:
        _check_hosts(url)
        return getattr(import_module(scheme.module, package), scheme.kind)(url, **options)

    return read(url, scheme, make)


def read(url: str, scheme: Scheme, make: Callable[[str], T]) -> T:
    """What `make` makes of `url`.

    Raises:
        ConfigurationError: the URL cannot be read, or a package is missing. Never contains the URL, which
            may hold a password.
    """
    name = url.partition("://")[0].lower()
    try:
        return make(url)
    except ImportError as exc:
        package = (exc.name or "").partition(".")[0]
        raise ConfigurationError(
            f"{name}:// needs the package {package!r}: pip install {scheme.package}[{scheme.extra}]"
        ) from exc
    except ConfigurationError:
        raise
    except Exception as exc:
        # Its text, and its traceback, may quote parts of the URL.
        raise ConfigurationError(f"the {name}:// URL cannot be read ({type(exc).__name__})") from None


def _check_hosts(url: str) -> None:
    """Raises ValueError if a port is none; some clients would find that out only when they connect."""
    for host in urlsplit(url).netloc.rpartition("@")[2].split(","):
        _ = urlsplit(f"//{host}").port


def of(url: str, known: Mapping[str, Any], who: str) -> str:
    """The scheme of `url`, in lower case.

    Raises:
        ConfigurationError: it is not among those that `who` is known for, or `url` is no text.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"the URL of {who} is a text, got {type(url).__name__}")
    if not url:
        raise ConfigurationError(
            f"the URL of {who} is empty: is a variable of the environment not set? None is for no URL"
        )
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in known:
        names = ", ".join(f"{name}://" for name, kind in known.items() if kind is not None)
        given = f"{scheme!r} is not a scheme that" if separator and _is_scheme(scheme) else "no scheme that"
        raise ConfigurationError(f"{given} {who} is known for; known are {names}")
    return scheme


def _is_scheme(text: str) -> bool:
    """Whether `text` can be shown: a scheme by its form (RFC 3986 section 3.1), and not a secret."""
    return re.fullmatch(r"[a-z][a-z0-9+.-]{0,31}", text) is not None
