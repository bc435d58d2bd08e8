"""Draws house.svg from the map in architecture.md: the folders, and the two paths through them.

python docs/images/make_house.py
"""

from __future__ import annotations

import re
from html import escape
from itertools import pairwise
from pathlib import Path

MAP = Path(__file__).parents[1] / "architecture.md"
IN = ["wire/", "sessions/", "actions/"]
"""From frame to handler."""
OUT = ["channels/", "cluster/", "brokers/", "cluster/", "wire/"]
"""From broadcast to socket."""

WIDTH, HEIGHT, TOP, LEFT, HOUSE = 980, 40, 70, 130, 640
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2933 }
.name { font-weight: 600; font-family: ui-monospace, monospace }
.small { font-size: 12px; fill: #52606d }
rect { fill: #f5f7fa; stroke: #cbd2d9 }
.in { stroke: #0967d2; fill: none; stroke-width: 2.5 }
.out { stroke: #c65d21; fill: none; stroke-width: 2.5 }
.in-text { fill: #0967d2; font-weight: 600 } .out-text { fill: #c65d21; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e7eb } .small { fill: #9aa5b1 } rect { fill: #1f2933; stroke: #52606d }
  .in { stroke: #63b3ed } .in-text { fill: #63b3ed } .out { stroke: #f6ad75 } .out-text { fill: #f6ad75 }
}
"""


def rows() -> list[tuple[str, str]]:
    """The rows of the map, from the top: the names of each, and what they are."""
    section = MAP.read_text().split("## The map")[1].split("\n## ")[0]
    found = re.findall(r"^\| ((?:`[\w/]+` ?)+)\| ([^:|]+)", section, re.MULTILINE)
    return [(" · ".join(re.findall(r"`([\w/]+)`", names)), what.strip()) for names, what in reversed(found)]


ROWS = rows()


def middle(name: str) -> int:
    row = next(index for index, (folder, _) in enumerate(ROWS) if folder == name)
    return TOP + row * HEIGHT + HEIGHT // 2 - 3


def path(kind: str, names: list[str], x: int, step: int) -> str:
    """Numbered arrows from folder to folder, each leg a little further from the house. Where a folder is met
    again, an arrow ends or begins below the one before."""
    legs, met = [], dict.fromkeys(names, -10)
    edge = LEFT if step < 0 else LEFT + HOUSE
    for leg, (start, end) in enumerate(pairwise(names)):
        begin, aside = middle(start) + met[start], x + step * leg
        met[end] += 0 if leg == 0 else 7
        finish = middle(end) + met[end]
        met[end] += 7
        legs.append(
            f'<path class="{kind}" marker-end="url(#{kind})" '
            f'd="M {edge} {begin} H {aside} V {finish} H {edge + (-4 if step < 0 else 4)}"/>'
            f'<text class="{kind}-text" x="{aside + (-12 if step < 0 else 5)}" '
            f'y="{(begin + finish) // 2 + 5}">{leg + 1}</text>'
        )
    return "\n".join(legs)


def draw() -> str:
    height = TOP + len(ROWS) * HEIGHT + 20
    boxes = [
        f'<rect x="{LEFT}" y="{TOP + row * HEIGHT}" width="{HOUSE}" height="{HEIGHT - 6}" rx="6"/>'
        f'<text class="name" x="{LEFT + 14}" y="{middle(name) + 5}">{escape(name)}</text>'
        f'<text class="small" x="{LEFT + HOUSE - 14}" y="{middle(name) + 5}" text-anchor="end">'
        f"{escape(what)}</text>"
        for row, (name, what) in enumerate(ROWS)
    ]
    markers = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto" markerUnits="userSpaceOnUse"><path class="{kind}" d="M 1 1 L 7 4 L 1 7"/></marker>'
        for kind in ("in", "out")
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"
 aria-label="The folders from the ground up, with the way in and the way out">
<style>{STYLE}</style><defs>{markers}</defs>
<text class="in-text" x="20" y="30">In: a client's frame</text>
<text class="small" x="20" y="50">wire → sessions → actions → the handler</text>
<text class="out-text" x="{WIDTH - 20}" y="30" text-anchor="end">Out: a broadcast</text>
<text class="small" x="{WIDTH - 20}" y="50" text-anchor="end">
channels → cluster → brokers → cluster → wire</text>
{chr(10).join(boxes)}
{path("in", IN, LEFT - 40, -40)}
{path("out", OUT, LEFT + HOUSE + 30, 40)}
</svg>
"""


if __name__ == "__main__":
    Path(__file__).with_name("house.svg").write_text(draw())
