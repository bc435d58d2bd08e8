"""A bar chart as SVG, readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

ROW: Final = 20
LABELS: Final = 285
BARS: Final = 430
MARGIN: Final = 16
STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.panel { font-weight: 600 }
.faint { fill: #6e7781 }
.bar { fill: #8c959f }
.own { fill: #009485 }
.line { stroke: #8c959f; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #8d96a0 } .bar { fill: #6e7681 } .own { fill: #2dd4bf }
}
"""


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    own: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    bars: Sequence[Bar]


def draw(title: str, subtitle: str, panels: Sequence[Panel]) -> str:
    """The chart: each panel with a scale of its own, and a line at 1."""
    body: list[str] = []
    top = 58
    for panel in panels:
        body.extend(_panel(panel, top))
        top += ROW * (len(panel.bars) + 1) + MARGIN
    width = MARGIN * 2 + LABELS + BARS + 60
    size = f'viewBox="0 0 {width} {top}" width="{width}" height="{top}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<text x="{MARGIN}" y="24" class="title">{escape(title)}</text>',
            f'<text x="{MARGIN}" y="42" class="faint">{escape(subtitle)}</text>',
            *body,
            "</svg>\n",
        )
    )


def _panel(panel: Panel, top: int) -> Iterator[str]:
    left = MARGIN + LABELS
    scale = BARS / max(1.0, *(bar.value for bar in panel.bars))
    yield f'<text x="{MARGIN}" y="{top + 14}" class="panel">{escape(panel.title)}</text>'
    for number, bar in enumerate(panel.bars, 1):
        y = top + number * ROW
        kind = "own" if bar.own else "bar"
        length = max(1.0, bar.value * scale)
        yield f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(bar.label)}</text>'
        yield f'<rect x="{left}" y="{y + 4}" width="{length:.1f}" height="{ROW - 7}" class="{kind}"/>'
        yield f'<text x="{left + length + 6:.1f}" y="{y + 14}">{bar.value:.2f}</text>'
    x = left + scale
    bottom = top + ROW * (len(panel.bars) + 1)
    yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + ROW}" y2="{bottom}" class="line"/>'
