"""Plays cases of every kind, in turns, until the time is over; prints every fault once, with its smallest case.

    python -m benchmarks.fuzz --minutes=30 --seed=0
    python -m benchmarks.fuzz --minutes=1 --only=pickles

Ends with a table of cases and faults by kind, and with status 1 if there is a fault.
"""

import pathlib
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, seed, settings

from benchmarks.fuzz import every_kind
from benchmarks.fuzz.judge import Kind
from trqam_jax import console

CASES = 50  # of a kind before the next one has its turn


class Campaign:
    """What has been played so far. faults: {kind: {where: what}}."""

    def __init__(self, kinds: dict[str, Kind], last: pathlib.Path):
        self._kinds, self._last = kinds, last
        self.cases = dict.fromkeys(kinds, 0)
        self.faults: dict[str, dict[str, str]] = {name: {} for name in kinds}

    def turn(self, name: str, number: int) -> None:
        """Some cases of a kind. A fault that is known is passed over."""
        known = self.faults[name]

        def play(case: Any) -> None:
            self.cases[name] += 1
            self._last.write_text(f"{name}: {case!r}\n", errors="backslashreplace")  # for a case that ends the process
            try:
                self._kinds[name].play(case)
            except Exception as error:
                assume(_where(error) not in known)
                raise

        options = settings(
            max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.target, Phase.shrink), print_blob=False, report_multiple_bugs=False,
        )  # fmt: skip
        run: Callable[[], None] = seed(number)(options(given(self._kinds[name].cases)(_nameless(play))))
        try:
            run()
        except Exception as error:
            where = _where(error)
            text = "".join(traceback.format_exception(error)[-6:])
            known[where] = f"{where}\n{text}\nfalsified by {self._last.read_text()}"
            print(f"FAULT {name}: {known[where]}", flush=True)


def _nameless(play: Callable[[Any], None]) -> Callable[[Any], None]:
    def case(case: Any) -> None:
        play(case)

    return case


def _where(error: BaseException) -> str:
    """Type and place, which tell faults apart: the last lines that are the project's own."""
    frames = traceback.extract_tb(error.__traceback__)
    root = str(pathlib.Path(__file__).parents[2])
    own = [frame for frame in frames if frame.filename.startswith(root) and ".venv" not in frame.filename]
    place = own[-1] if own else frames[-1]
    detail = str(error).partition(":")[0][:40] if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} {detail} {pathlib.Path(place.filename).name}:{place.lineno}"


def main(argv: list[str] | None = None) -> None:
    parser = console.Parser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds begin with equal cases (default: %(default)s)")
    parser.add_argument("--only", default="", help="kinds whose names begin so")
    parser.add_argument("--last", type=pathlib.Path, default=pathlib.Path("fuzz-last-case.txt"), help="a file that "
        "holds the case that is played, should it end the process (default: %(default)s)")  # fmt: skip
    arguments = parser.parse_args(argv)
    kinds = {name: kind for name, kind in every_kind().items() if name.startswith(arguments.only)}
    if not kinds:
        parser.error(f"--only={arguments.only}: no kind begins so, of {', '.join(every_kind())}")
    campaign, end, turn = Campaign(kinds, arguments.last.resolve()), time.monotonic() + 60 * arguments.minutes, 0
    while time.monotonic() < end:
        name = list(kinds)[turn % len(kinds)]
        campaign.turn(name, arguments.seed * 1_000_003 + turn)
        turn += 1
    arguments.last.unlink(missing_ok=True)
    width = max(map(len, kinds))
    print(f"{'kind':<{width}}  {'cases':>8}  faults")
    for name in kinds:
        print(f"{name:<{width}}  {campaign.cases[name]:>8,}  {len(campaign.faults[name])}")
    total = sum(map(len, campaign.faults.values()))
    print(f"{sum(campaign.cases.values()):,} cases, {total} faults")
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    console.prepare()
    main()
