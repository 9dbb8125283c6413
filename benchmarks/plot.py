"""Bars of how many times a bare fork each way costs, a panel per row.

``python -m benchmarks --plot`` runs it in an environment that has matplotlib: ``benchmarks.plot RESULTS.json PICTURE``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.report import Record, Results

_MOST = 3.5  #: longer bars are cut, and say what they stand for
_COLUMNS = 3
_OURS, _FLOOR, _PEER, _INK = "#2f6db5", "#9aa3ad", "#d9a15b", "#3b4149"


def _colour(record: Record) -> str:
    if record.way.startswith("isolate"):
        return _OURS
    return _FLOOR if record.way in {"fork", "plain", "xdist"} else _PEER


def _ratio(record: Record) -> float | None:
    """With several workers the end of one test is followed by that of another worker's, so a step says nothing."""
    wall, step, _ = record.per_fork
    return wall if record.row.workers > 1 else step


def draw(results: Results, path: Path) -> None:
    """Write the picture, in the format that the name's suffix says."""
    import matplotlib as mpl  # noqa: PLC0415 - not installed where the benchmark runs
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels: dict[str, list[Record]] = {}
    for record in results.records:
        if _ratio(record) is not None:
            panels.setdefault(f"Python {record.python}, {record.row}", []).append(record)
    if not panels:
        sys.exit("there is nothing to draw: no way was measured beside the bare fork")
    mpl.rcParams.update({"svg.hashsalt": "benchmarks", "font.size": 9, "text.color": _INK, "axes.labelcolor": _INK})
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    bars = max(map(len, panels.values()))
    figure, axes = plt.subplots(
        rows, columns, figsize=(6 * columns, rows * (0.27 * bars + 1.2)), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (heading, records) in zip(axes.flat, panels.items(), strict=False):
        for place, record in enumerate(records):
            value = _ratio(record) or 0.0
            light = 0.55 if record.user == "rootless" else 1.0
            axis.barh(place, min(value, _MOST), color=_colour(record), alpha=light, height=0.72)
            cut = " →" if value > _MOST else ""
            axis.text(min(value, _MOST) + 0.04, place, f"{value:.2f}{cut}", va="center", fontsize=8)
        labels = [f"{one.label}, {one.user}" for one in records]
        axis.set_yticks(range(len(records)), labels, fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, _MOST + 0.6)
        axis.axvline(1, color=_INK, linewidth=0.8, linestyle=":")
        axis.set_title(heading.replace(", ", "\n", 1), fontsize=9, loc="left")
        measure = "wall time" if records[0].row.workers > 1 else "median time from test to test"
        axis.set_xlabel(f"{measure}, × bare fork", fontsize=8)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color("#c8ccd1")
        axis.tick_params(length=0, colors=_INK)
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, metadata=metadata, facecolor="white")


if __name__ == "__main__":
    draw(Results.load(Path(sys.argv[1])), Path(sys.argv[2]))
