"""Tables as text, and where they are kept: results.json, and README.md below its marker.

Both hold every group as it was last measured, so that measuring one leaves the others.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent
RESULTS, README = FOLDER / "results.json", FOLDER / "README.md"
MARKER = "<!-- table -->"
TITLES = {
    "machine": "The machine",
    "gemm": "Matrix products (rows x columns x summed; T: an operand that lies transposed)",
    "convolution": "Convolutions",
    "operators": "Operators",
    "chain": "sum(x * sigmoid(1.702 x) + tanh(x))",
    "training": "Training steps",
    "inference": "Inference",
    "scaling": "Training steps, eager, by batch, image size and threads",
    "memory": "Memory",
    "starting": "Starting",
}
ENTRANTS = (
    "ours", "ours, F(4x4)", "ours compiled", "PyTorch", "PyTorch channels last", "torch.compile", "NumPy", "JAX",
)  # fmt: skip
Row = dict[str, Any]


def load() -> dict[str, Any]:
    """What was measured before, by group."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(groups: dict[str, Any]) -> None:
    """Writes both files; groups stand in the order of TITLES."""
    ordered = {name: groups[name] for name in TITLES if name in groups}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
    head = README.read_text().split(MARKER)[0]
    README.write_text(head + MARKER + "\n" + "\n".join(section(name, entry) for name, entry in ordered.items()))


def section(name: str, entry: dict[str, Any]) -> str:
    """One group: title, where and when it was measured, table, summary."""
    lines = [f"## {TITLES[name]}", ""]
    if entry.get("noisy"):
        lines += [
            f"**Measured on a noisy machine** (like work took up to {entry['noise']:.2f} times as long): not to be relied on.",
            "",
        ]
    rows = entry["rows"]
    figures = bool(rows) and "figures" in rows[0]
    lines += _figures(rows) if figures else _timings(rows, entry.get("machine"))
    lines += ["", f"{entry['date']}. {entry['environment']}", ""]
    return "\n".join(lines)


def _table(header: list[str], body: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *(f"| {' | '.join(cells)} |" for cells in body)]


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _figures(rows: list[Row]) -> list[str]:
    columns = list(rows[0]["figures"])
    return _table(["", *columns], [[row["case"], *(_number(row["figures"].get(c, "")) for c in columns)] for row in rows])


def _ms(row: Row, name: str) -> float | None:
    found = row["times"].get(name)
    return found["ms"] if found else None


def _best_rival(row: Row) -> float | None:
    return min((found["ms"] for name, found in row["times"].items() if not name.startswith("ours")), default=None)


def _ratio(rival: Callable[[Row], float | None], ours: str) -> Callable[[Row], float | None]:
    def ratio(row: Row) -> float | None:
        above, below = rival(row), _ms(row, ours)
        return above / below if above is not None and below is not None else None

    return ratio


def entrants(rows: list[Row]) -> list[str]:
    """The entrants of any of the rows, ours first."""
    names = {name for row in rows for name in (*row["times"], *row["failed"])}
    return sorted(names, key=ENTRANTS.index)


def ratios(rows: list[Row]) -> dict[str, Callable[[Row], float | None]]:
    """The columns of ratios that a group has: rival's time by ours, above 1 where ours is the shorter."""
    names = entrants(rows)
    found: dict[str, Callable[[Row], float | None]] = {"PyTorch / ours": _ratio(lambda row: _ms(row, "PyTorch"), "ours")}
    if sum(not n.startswith("ours") for n in names) > 1:
        found["best rival / ours"] = _ratio(_best_rival, "ours")
    for name in names:
        if name.startswith("ours") and name != "ours":
            found[f"best rival / {name}"] = _ratio(_best_rival, name)
    return {title: ratio for title, ratio in found.items() if any(ratio(row) is not None for row in rows)}


def _shares(rows: list[Row], machine: dict[str, float] | None) -> dict[str, Callable[[Row], str]]:
    """Columns that set our time against what the machine can do, or against the batch."""
    found: dict[str, Callable[[Row], str]] = {}

    def per_second(row: Row, key: str) -> float | None:
        mine = _ms(row, "ours")
        return row[key] / mine / 1e6 if mine else None

    def share(key: str, limit: float) -> Callable[[Row], str]:
        def shown(row: Row) -> str:
            rate = per_second(row, key)
            return "" if rate is None else f"{100 * rate / limit:.0f} %"

        return shown

    if machine and any("flop" in row for row in rows):
        found["of FMA peak"] = share("flop", machine["all_threads"])
    if machine and any("bytes" in row for row in rows):
        found["of triad"] = share("bytes", machine["triad"])
    if any("batch" in row for row in rows):
        found["ours, us an example"] = lambda row: _cell(
            1e3 * row["times"]["ours"]["ms"] / row["batch"] if _ms(row, "ours") else None
        )
    return found


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _time(row: Row, name: str) -> str:
    if name in row["failed"]:
        return "WRONG" if name in row.get("wrong", ()) else "-"
    return _cell(_ms(row, name))


def _timings(rows: list[Row], machine: dict[str, float] | None) -> list[str]:
    names, compared, shares = entrants(rows), ratios(rows), _shares(rows, machine)
    with_first = any("compile" in name for name in names)
    header = ["ms", *names, *shares, *compared, "spread", *(["first calls"] if with_first else [])]
    body = []
    for row in rows:
        spread = max((found["spread"] for found in row["times"].values()), default=None)
        cells = [row["case"], *(_time(row, name) for name in names), *(show(row) for show in shares.values())]
        cells += [_cell(ratio(row)) for ratio in compared.values()] + ["" if spread is None else f"{spread:.2f}x"]
        if with_first:
            cells.append(" / ".join(_cell(row["times"][n]["first_ms"]) if n in row["times"] else "-" for n in names))
        body.append(cells)
    return _table(header, body) + _summary(rows, compared) + _remarks(rows)


def _summary(rows: list[Row], compared: dict[str, Callable[[Row], float | None]]) -> list[str]:
    """The median and the least of each ratio."""
    parts = []
    for title, ratio in compared.items():
        values = [v for v in map(ratio, rows) if v is not None]
        parts.append(f"{title}: median {statistics.median(values):.2f}, least {min(values):.2f}")
    return ["", ". ".join(parts) + "."] if parts else []


def _remarks(rows: list[Row]) -> list[str]:
    """Each reason to be missing, and each warning, once, with the entrant and the cases it holds for."""
    cases: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, reason in (*row["failed"].items(), *row.get("notes", {}).items()):
            cases.setdefault((name, reason), []).append(row["case"])
    lines = []
    for (name, reason), where in cases.items():
        place = "all cases" if len(where) == len(rows) else "; ".join(where)
        lines += ["", f"{name} ({place}): {reason.rstrip('.')}."]
    return lines
