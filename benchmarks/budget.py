"""Speed, and the arithmetic of an update, as the two tables of benchmarks/README.md:
python -m benchmarks.budget update.csv, or several such files.
"""

import csv
import math
import sys

from trqam_jax import console

Rows = list[dict[str, str]]


def speeds(rows: Rows) -> str:
    """Markdown, a line per measured loop."""
    columns = {
        "method": lambda row: row["agent"],
        "loop": lambda row: row["loop"],
        "replicas": lambda row: row["replicas"],
        "create, s": lambda row: f"{float(row['create_seconds']):.1f}",
        "first update, s": lambda row: f"{float(row['first_seconds']):.1f}",
        "both again, programs kept": lambda row: _number(row["warm_seconds"], ".1f"),
        "updates/s in all": lambda row: f"{float(row['updates_per_second']):.2f}",
        "of peak": lambda row: f"{_share(row):.2f}",
        "peak, GFLOP/s": lambda row: f"{float(row['peak_gflops']):.0f}",
        "estimated MiB": lambda row: _number(row["estimate_mib"], ".0f"),
        "resident MiB of the process": lambda row: f"{float(row['resident_mib']):.0f}",
    }
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(text(row) for text in columns.values()) + " |" for row in rows])


def _number(text: str, form: str) -> str:
    return "" if text == "nan" else format(float(text), form)


def _share(row: dict[str, str]) -> float:
    return float(row["updates_per_second"]) * float(row["gflop"]) / float(row["peak_gflops"])


def arithmetic(rows: Rows) -> str:
    """Markdown, a line per method: of its first row before and its first row now."""
    lines = [
        "| method | GFLOP per update | counted / XLA, loops once | MiB moved, loops once | floor, ms | before, ms "
        "| now, ms | now / floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for agent in dict.fromkeys(row["agent"] for row in rows):
        first = {loop: next((r for r in rows if r["agent"] == agent and r["loop"] == loop), None) for loop in LOOPS}
        cost = {loop: 1e3 / float(row["updates_per_second"]) if row else math.nan for loop, row in first.items()}
        any_row = first["before"] or first["now"] or next(r for r in rows if r["agent"] == agent)
        floor = 1e3 * float(any_row["gflop"]) / max(float(row["peak_gflops"]) for row in rows if row["agent"] == agent)
        ratio = float(any_row["once_gflop"]) / float(any_row["xla_gflop"])
        before, now = (cost[loop] for loop in LOOPS)
        cells = float(any_row["gflop"]), ratio, float(any_row["mib_moved"]), floor, before, now, now / floor
        formats = (".1f", ".2f", ",.0f", ".0f", ".0f", ".0f", ".2f")
        texts = ["-" if math.isnan(x) else format(x, f) for x, f in zip(cells, formats, strict=True)]
        lines.append(f"| {agent} | {' | '.join(texts)} |")
    return "\n".join(lines)


LOOPS = ("before", "now")

if __name__ == "__main__":
    console.prepare()
    if not sys.argv[1:]:
        sys.exit("error: expected files of benchmarks.update --csv: python -m benchmarks.budget update.csv")
    measured = []
    for path in sys.argv[1:]:
        try:
            with open(path, newline="") as file:
                measured += csv.DictReader(file)
        except OSError as error:
            sys.exit(f"error: {error}")
    if missing := {"agent", "loop", "warm_seconds", "gflop", "peak_gflops"} - set(*measured[:1]):
        sys.exit(f"error: expected the columns of benchmarks.update --csv; there is no {', '.join(sorted(missing))}")
    print(speeds(measured), arithmetic(measured), sep="\n\n")
