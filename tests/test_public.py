"""The public surface is what docs/public.txt says."""

from difflib import unified_diff

from tests.support.public import WRITTEN, surface


def test_the_public_surface_is_the_one_that_is_written_down():
    """`make public` writes it anew; whoever reviews the change reads the difference."""
    written, found = WRITTEN.read_text().splitlines(), surface().splitlines()
    difference = "\n".join(unified_diff(written, found, "written", "found", lineterm=""))
    assert not difference, f"the public surface has changed; `make public` writes it down:\n{difference}"


def test_it_holds_what_users_import():
    text = WRITTEN.read_text()
    for line in ("class BaseChannel", "    async connect(", "add_channel(parent", "class RateLimiter"):
        assert f"\n{line}" in text, line
