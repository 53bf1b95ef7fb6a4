# SPDX-License-Identifier: MIT
"""Draw the picture of a run: one group of bars a case, longer is faster, as SVG.

Within a group the longest bar belongs to the fastest loop and the others are in proportion to it;
the text at a bar says how many times the reference loop's speed that is. Colours follow the
viewer's light or dark mode.
"""

from html import escape
from typing import Any

import loops

HEADLINES = {
    "echo-protocol-1024-1": "Echo of 1 KiB, one connection",
    "echo-protocol-1024-100": "Echo of 1 KiB, 100 connections",
    "echo-streams-1024-100": "Echo of 1 KiB with streams, 100 connections",
    "connect": "Connect, echo, close",
    "call_soon-chain": "call_soon, one after another",
    "call_soon-burst": "call_soon, a thousand at once",
    "timer-cancel": "Timer armed and cancelled",
    "sleep0": "await sleep(0)",
    "queue-ping-pong": "Queue ping-pong",
    "run-nothing": "asyncio.run of nothing",
}
"""The cases that are drawn, in this order, and what they are called there."""

SHOWN = (loops.HOOP, "blazio", "rloop", "zuvloop", "uvloop", "asyncio")

WIDTH = 840
COLUMNS = 2
MARGIN = 16
TOP = 62
NAME_WIDTH = 66
BAR_WIDTH = 280
BAR_HEIGHT = 11
BAR_STEP = 15
HEADING_HEIGHT = 20
GROUP_GAP = 14

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.case { font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.name { text-anchor: end; }
.hoop { fill: #1a7f37; }
.peer { fill: #8c959f; }
.reference { fill: #57606a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9198a1; }
  .hoop { fill: #3fb950; }
  .peer { fill: #6e7681; }
  .reference { fill: #9198a1; }
}
"""


def text(x: float, y: float, content: str, kind: str) -> str:
    """Return a text element."""
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{escape(content)}</text>'


def bar(x: float, y: float, length: float, loop: str) -> str:
    """Return the bar of a loop."""
    kind = {loops.HOOP: "hoop", loops.REFERENCE: "reference"}.get(loop, "peer")
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{length:.1f}" height="{BAR_HEIGHT}" '
        f'rx="2" class="{kind}"/>'
    )


def speeds(case: dict[str, Any]) -> dict[str, float]:
    """Return the ratios to draw: those of the shown loops that have one."""
    results = case["results"]
    return {
        name: results[name]["ratio"] for name in SHOWN if name in results and results[name]["ratio"]
    }


def group(ratios: dict[str, float], title: str, x: float, y: float) -> list[str]:
    """Return the elements of one case, its top left corner at x, y."""
    elements = [text(x, y + 12, title, "case")]
    y += HEADING_HEIGHT
    left = x + NAME_WIDTH
    fastest = max(ratios.values())
    for name, ratio in ratios.items():
        length = BAR_WIDTH * ratio / fastest
        elements.append(text(left - 8, y + 9.5, name, "name"))
        elements.append(bar(left, y, length, name))
        elements.append(text(left + length + 6, y + 9.5, f"{ratio:.2f}", "small"))
        y += BAR_STEP
    return elements


def draw(document: dict[str, Any]) -> str:
    """Return the picture of a finished document as SVG text."""
    cases = {case["name"]: case for case in document["cases"]}
    drawn = {
        title: speeds(cases[name])
        for name, title in HEADLINES.items()
        if name in cases and speeds(cases[name])
    }
    version = document["meta"]["python"].split()[0]
    subtitle = f"CPython {version}, {document['meta']['date']}; medians of several rounds"
    elements = [
        text(MARGIN, 26, f"Speed relative to {loops.REFERENCE}, longer is faster", "title"),
        text(MARGIN, 44, subtitle, "small"),
    ]
    most = max((len(ratios) for ratios in drawn.values()), default=0)
    row_height = HEADING_HEIGHT + most * BAR_STEP + GROUP_GAP
    for index, (title, ratios) in enumerate(drawn.items()):
        row, column = divmod(index, COLUMNS)
        x = MARGIN + column * (WIDTH - MARGIN) / COLUMNS
        elements += group(ratios, title, x, TOP + row * row_height)
    height = TOP + -(-len(drawn) // COLUMNS) * row_height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label="Benchmark results">',
            f"<style>{STYLE}</style>",
            *elements,
            "</svg>\n",
        ]
    )
