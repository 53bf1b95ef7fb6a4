# SPDX-License-Identifier: MIT
"""From measurements to figures: medians, spreads, ratios, and the table on the terminal.

The JSON document, which `run.py --json` writes and the picture is drawn from, is

    {"meta": {...}, "loops": {name: version}, "absent": {name: reason},
     "cases": [{"name", "title", "unit", "results": {loop: RESULT}}]}

RESULT has "rounds" (what each round measured: "value" in ns or bytes, and details, or null where
the round failed), "failed" (the last reason, or null) and, computed here, "value" (median), "low",
"high", "ratio" and "note". `ratio` says how many times better than the reference loop: the median
over the rounds of (reference in that round / this loop in that round), so that what slows a whole
round down does not count. A loop that did the wrong thing ("wrong") has no ratio and cannot be the
best.
"""

import statistics
from typing import Any

import loops

Document = dict[str, Any]

SCALE = {"ns": 1.0, "us": 1000.0, "B": 1.0}


def finish(document: Document) -> None:
    """Compute what is derived from the rounds, in place."""
    for case in document["cases"]:
        results = case["results"]
        for result in results.values():
            _summarise(result)
        for name, result in results.items():
            result["ratio"] = ratio(results, loops.REFERENCE, name)
        case["best_peer"] = best_peer(results)
        case["hoop_to_limit"] = ratio(results, loops.LIMIT, loops.HOOP)
        case["hoop_to_best_peer"] = ratio(results, case["best_peer"] or "", loops.HOOP)


def _summarise(result: dict[str, Any]) -> None:
    done = [measured for measured in result["rounds"] if measured]
    values = [measured["value"] for measured in done]
    result["value"] = statistics.median(values) if values else None
    result["low"] = min(values, default=None)
    result["high"] = max(values, default=None)
    wrong = [measured["wrong"] for measured in done if "wrong" in measured]
    result["wrong"] = wrong[-1] if wrong else None
    result["note"] = _note(done)


def _note(done: list[dict[str, Any]]) -> str:
    """Return the details worth a column: those of the round in the middle."""
    if not done:
        return ""
    middle = sorted(done, key=lambda measured: measured["value"])[len(done) // 2]
    if "server" in middle:
        rate = f"{middle['per_second'] / 1000:.1f} k/s"
        if middle["value"] == middle["server"]:
            return rate
        idle = f", core idle {middle['idle']:.0%}" if middle["idle"] > 0.05 else ""
        return f"server {middle['server'] / 1000:.1f} us, {rate}{idle}"
    if "note" in middle:
        return str(middle["note"])
    return ""


def ratio(results: dict[str, Any], base: str, name: str) -> float | None:
    """How many times better `name` is than `base`, or None if one of them has no valid value."""
    ours, theirs = results.get(name), results.get(base)
    if not ours or not theirs or ours["wrong"] or theirs["wrong"]:
        return None
    ratios = [
        there["value"] / here["value"]
        for here, there in zip(ours["rounds"], theirs["rounds"], strict=False)
        if here and there and here["value"] > 0 and there["value"] > 0
    ]
    return statistics.median(ratios) if ratios else None


def best_peer(results: dict[str, Any]) -> str | None:
    """Name the best loop that is neither hoop nor a limit."""
    peers = {
        name: result["value"]
        for name, result in results.items()
        if name != loops.HOOP
        and name not in loops.LIMITS
        and result["value"] is not None
        and not result["wrong"]
    }
    return min(peers, key=lambda name: peers[name]) if peers else None


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def times(value: float | None) -> str:
    """Show a ratio, or a dash."""
    return "-" if value is None else f"{value:.2f}x"


def case_table(case: dict[str, Any]) -> str:
    """Return the table of one case, best loop first, failures last."""
    scale = SCALE[case["unit"]]
    heading = f"{case['title']} [{case['unit']}]   ({case['name']})"
    columns = f"  {'':11}{'median':>9}{'min .. max':>19}{'to ' + loops.REFERENCE:>11}"
    lines = [heading, columns]
    order = sorted(
        case["results"].items(),
        key=lambda item: (item[1]["value"] is None, bool(item[1]["wrong"]), item[1]["value"] or 0),
    )
    for name, result in order:
        if result["value"] is None:
            lines.append(f"  {name:11}   failed: {result['failed']}")
            continue
        spread = f"{number(result['low'] / scale)} .. {number(result['high'] / scale)}"
        remarks = [result["wrong"] and f"WRONG: {result['wrong']}", result["note"]]
        if result["failed"]:
            misses = sum(measured is None for measured in result["rounds"])
            remarks.append(f"failed in {misses} of {len(result['rounds'])}: {result['failed']}")
        remark = "; ".join(text for text in remarks if text)
        value = number(result["value"] / scale)
        line = f"  {name:11}{value:>9}{spread:>19}{times(result['ratio']):>11}  {remark}"
        lines.append(line.rstrip())
    for base, value in (
        (case["best_peer"], case["hoop_to_best_peer"]),
        (loops.LIMIT, case["hoop_to_limit"]),
    ):
        if value is not None:
            lines.append(f"  {loops.HOOP} to {base}: {times(value)}")
    return "\n".join(lines)


def summary(document: Document) -> str:
    """Return one line a case: each loop's ratio to the reference, and hoop's to the best peer."""
    names = [name for name in [*loops.LIMITS, *loops.FACTORIES] if name in document["loops"]]
    width = max((len(case["title"]) for case in document["cases"]), default=0)
    heading = f"{'ratio to ' + loops.REFERENCE:{width}}" + "".join(f"{name:>10}" for name in names)
    lines = [heading + "   hoop / best peer"]
    for case in document["cases"]:
        cells = []
        for name in names:
            result = case["results"].get(name)
            if not result:
                text = ""
            elif result["value"] is None:
                text = "failed"
            else:
                text = "wrong" if result["wrong"] else times(result["ratio"])
            cells.append(f"{text:>10}")
        line = f"{case['title']:{width}}" + "".join(cells)
        if case["best_peer"]:
            line += f"   {times(case['hoop_to_best_peer']):>6} {case['best_peer']}"
        lines.append(line)
    return "\n".join(lines)
