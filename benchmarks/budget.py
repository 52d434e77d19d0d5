"""The arithmetic of an update and what it costs, as a table: python -m benchmarks.budget update.csv"""

import csv
import sys


def table(rows: list[dict[str, str]]) -> str:
    """Markdown, a line per method: of its first row before and its first row now."""
    lines = [
        "| method | GFLOP per update | counted / XLA, loops once | MiB moved, loops once | floor, ms | before, ms "
        "| now, ms | now / floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for agent in dict.fromkeys(row["agent"] for row in rows):
        first = {loop: next((r for r in rows if r["agent"] == agent and r["loop"] == loop), None) for loop in LOOPS}
        cost = {loop: 1e3 / float(row["updates_per_second"]) if row else None for loop, row in first.items()}
        any_row = first["before"] or first["now"]
        floor = 1e3 * float(any_row["gflop"]) / max(float(row["peak_gflops"]) for row in rows if row["agent"] == agent)
        ratio = float(any_row["once_gflop"]) / float(any_row["xla_gflop"])
        now = cost["now"] * int(first["now"]["replicas"])
        cells = [float(any_row["gflop"]), ratio, float(any_row["mib_moved"]), floor, cost["before"], now, now / floor]
        formats = (".1f", ".2f", ",.0f", ".0f", ".0f", ".0f", ".2f")
        texts = ["-" if x is None else format(x, f) for x, f in zip(cells, formats, strict=True)]
        lines.append(f"| {agent} | {' | '.join(texts)} |")
    return "\n".join(lines)


LOOPS = ("before", "now")

if __name__ == "__main__":
    with open(sys.argv[1], newline="") as file:
        print(table(list(csv.DictReader(file))))
