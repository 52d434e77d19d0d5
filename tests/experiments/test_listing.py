"""What main --list says of environments."""

import re

from experiments.listing import listing


def test_a_domain_is_for_tests_only_beside_a_benchmark():
    lines = {line.split()[0]: line for line in listing().splitlines() if line.startswith("  ")}
    assert lines["puzzle-4x4"].endswith("tasks 1-5, default 4; O=83 A=5 H=5; benchmark")
    assert lines["cube-single"].endswith("; for tests and demos")
    assert re.search(r"one task; O=23 A=7 H=5$", lines["robomimic-can"])
