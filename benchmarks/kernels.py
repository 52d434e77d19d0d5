"""What a GPU or a TPU would do for one update, on a machine that has neither: make kernels

    python -m benchmarks.kernels --agents=all --csv=kernels.csv --compare=benchmarks/results/kernels-h100.csv

The program that `main.py` dispatches is compiled for an NVIDIA H100 (--platform=gpu) or a TPU v5e (--platform=tpu) and
counted. That shows its structure: kernels, launches, waits for the host, products and their precision, bytes, memory.
It times nothing but the compiler, and on a device XLA tries several kernels for a product, so that it may take others.
Every program is compiled in a process of its own. It takes plugins of jax, which `make kernels` installs.
"""

import contextlib
import csv
import io
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import jax
from absl import app, flags

import agents
from benchmarks import deviceless, gpu_program, hlo, targets
from benchmarks.update import BATCH, SPEC, in_new_process
from trqam_jax import console
from trqam_jax.errors import UserError, suggest
from trqam_jax.files import sha256, write_text

SMALL = 50e6  # floating-point operations of a product that a GPU hardly notices
#: What names a row; the other columns are what was found.
KEY = (
    "platform", "agent", "phase", "replicas", "hidden_dims", "critics", "batch", "horizon", "precision",
)  # fmt: skip
#: Not compared: what may differ though the program is the same, and what is compared by itself.
NOT_COMPARED = (
    "lower_seconds", "compile_seconds", "compile_processor_seconds", "options", "jax", "code", "gemm_shapes", "error",
)  # fmt: skip
FIELDS: tuple[str, ...] = (
    *KEY,
    "kernels", *gpu_program.CLASSES, "one_block",  # an update, of all replicas
    "graph_launches", "loose_launches", "host_syncs",  # an update
    "outside_launches",  # a dispatch
    "small_gemms", "gflop", "gb_moved",  # an update
    "argument_mib", "temporary_mib",
    "products",  # "tf32 282": how many of which precision
    *NOT_COMPARED,
)  # fmt: skip
Row = dict[str, str]


class Difference(NamedTuple):
    """A column in which a row is not what it was."""

    row: tuple[str, ...]  # its KEY
    column: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{' '.join(self.row)}: {self.column}: {self.before} before, {self.now} now"


def key(row: Mapping[str, str]) -> tuple[str, ...]:
    """What the row is of."""
    return tuple(row[name] for name in KEY)


def requested(request: deviceless.Request) -> Row:
    """The row's KEY."""
    values = {
        "platform": request.platform,
        "agent": request.agent,
        "phase": "online" if agents.AGENTS[request.agent].online_only else "offline",
        "replicas": request.replicas,
        "hidden_dims": "x".join(map(str, request.hidden_dims)),
        "critics": request.num_critics,
        "batch": request.batch,
        "horizon": request.spec.horizon,
        "precision": request.precision,
    }
    return {name: str(value) for name, value in values.items()}


def measure(request: deviceless.Request, folder: pathlib.Path) -> Row:
    """The row of a program, in this process; what XLA dumps stays in the folder."""
    compiled = deviceless.compile_updates(request, folder if request.platform == "gpu" else None)
    memory = compiled.program.memory_analysis()
    found: dict[str, Any] = {
        "argument_mib": memory.argument_size_in_bytes / 2**20,
        "temporary_mib": memory.temp_size_in_bytes / 2**20,
        "lower_seconds": compiled.lower_seconds,
        "compile_seconds": compiled.seconds,
        "compile_processor_seconds": compiled.processor_seconds,
        "options": " ".join(f"{name}={value}" for name, value in sorted(compiled.options.items())),
        "jax": jax.__version__,
    }
    if request.platform == "gpu":
        found |= of_gpu(gpu_program.account(*gpu_program.read_folder(folder)))
    else:
        found["products"] = counted(hlo.tpu_precision(compiled.program.as_text()))
    return requested(request) | {name: text(value) for name, value in found.items()}


def of_gpu(account: gpu_program.Account) -> dict[str, Any]:
    """The columns that only a GPU's program fills."""
    products, precisions = account.products, dict[str, int]()
    for (_, precision), count in products.items():
        precisions[precision] = precisions.get(precision, 0) + count
    largest = sorted(products, key=lambda each: -each[0].flop * products[each])
    return {
        "kernels": sum(account.classes.values()),
        **account.classes,
        "one_block": account.one_block,
        "graph_launches": account.graphs,
        "loose_launches": account.loose,
        "host_syncs": account.host_syncs,
        "outside_launches": account.outside,
        "small_gemms": sum(count for (product, _), count in products.items() if product.flop < SMALL),
        "gflop": sum(product.flop * count for (product, _), count in products.items()) / 1e9,
        "gb_moved": sum(account.class_bytes.values()) / 1e9,
        "products": counted(precisions),
        "gemm_shapes": "; ".join(
            f"{product} {precision} {products[product, precision]}" for product, precision in largest
        ),
    }


def counted(counts: Mapping[str, int]) -> str:
    """The most frequent first."""
    return "; ".join(f"{name} {counts[name]}" for name in sorted(counts, key=lambda name: (-counts[name], name)))


def text(value: Any) -> str:
    """As it is written."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read(path: pathlib.Path) -> list[Row]:
    """The rows of a file. UserError if there is none, or one of another form."""
    if not path.exists():
        raise UserError(f"there is no file {path} of rows; --csv={path} would write one")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
        if rows and tuple(rows[0]) != FIELDS:
            raise UserError(f"{path} has other columns than this command writes; move it away")
        return rows


def write(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """All of a file, at once: a command that is killed leaves what it had."""
    content = io.StringIO()
    writer = csv.DictWriter(content, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, content.getvalue())


def digest_of_code() -> str:
    """Of what a row depends on beside its KEY: the library, the agents, what counts, XLA's flags."""
    root = pathlib.Path(__file__).parents[1]
    counting = [
        root / "benchmarks" / name
        for name in ("deviceless.py", "targets.py", "gpu_program.py", "hlo.py", "devices/h100_sxm.txtpb")
    ]
    paths = [*sorted((root / "trqam_jax").rglob("*.py")), *sorted((root / "agents").rglob("*.py")), *counting]
    return sha256([*(path.read_bytes() for path in paths), os.environ.get("XLA_FLAGS", "").encode()])[:8]


def differences(before: Sequence[Row], now: Sequence[Row], tolerance: float) -> list[Difference]:
    """Of the rows of `now`, in the columns that are compared: numbers that differ by more than this part of what they
    were, other texts that are not the same, and rows that were not there."""
    known, found = {key(row): row for row in before}, []
    for row in now:
        if key(row) not in known:
            found.append(Difference(key(row), "the row", "not there", "there"))
            continue
        old = known[key(row)]
        if row["error"] or old["error"]:
            if bool(row["error"]) != bool(old["error"]):
                found.append(Difference(key(row), "error", old["error"], row["error"]))
            continue
        for column in FIELDS:
            if column not in KEY and column not in NOT_COMPARED and not alike(old[column], row[column], tolerance):
                found.append(Difference(key(row), column, old[column], row[column]))
    return found


def alike(before: str, now: str, tolerance: float) -> bool:
    """Whether two cells agree: word by word, numbers within a part of what they were before."""
    old, new = before.split(), now.split()
    return len(old) == len(new) and all(_word_alike(*pair, tolerance) for pair in zip(old, new, strict=True))


def _word_alike(before: str, now: str, tolerance: float) -> bool:
    if before == now:
        return True
    try:
        old, new = float(before.rstrip(";")), float(now.rstrip(";"))
    except ValueError:
        return False
    return abs(new - old) <= tolerance * abs(old)


def failed(request: deviceless.Request, error: Exception, said: str) -> Row:
    """The row of a program that does not compile, or that cannot be counted. said: by its process on stderr."""
    message = str(error)
    if isinstance(error, BrokenProcessPool):
        message = next((line for line in reversed(said.splitlines()) if line.strip()), message)
    return requested(request) | {"error": f"{type(error).__name__}: {' '.join(message.split()):.500}"}


SHOWN = (
    "kernels", "gemm", "one_block", "graph_launches", "loose_launches", "host_syncs", "gflop", "gb_moved",
    "argument_mib", "temporary_mib", "compile_processor_seconds", "products",
)  # fmt: skip


def line(row: Row) -> str:
    """A row on the terminal."""
    head = f"{row['agent']:<16}{row['replicas']:>3}  "
    if row["error"]:
        return head + row["error"]
    return head + ", ".join(f"{name} {row[name]}" for name in SHOWN if row[name])


def markdown(rows: Sequence[Row]) -> str:
    """A table with a line for each agent, and its numbers of replicas beside each other: "834 / 819"."""
    shown = [name for name in SHOWN if any(row[name] for row in rows)]
    by_agent: dict[str, list[Row]] = {}
    for row in rows:
        by_agent.setdefault(row["agent"], []).append(row)
    lines = [["agent", "replicas", *shown], ["---"] * (2 + len(shown))]
    for name, own in by_agent.items():
        cells = [" / ".join("failed" if row["error"] else row[column] for row in own) for column in shown]
        lines.append([name, " / ".join(row["replicas"] for row in own), *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def details(row: Row) -> str:
    """Classes and products of a row."""
    classes = ", ".join(f"{name} {row[name]}" for name in gpu_program.CLASSES if row[name])
    return "\n".join(f"    {part}" for part in [classes, *row["gemm_shapes"].split("; ")] if part)


def requests() -> list[deviceless.Request]:
    """What the flags ask for. UserError where they ask for what there is not."""
    names = list(agents.AGENTS) if FLAGS.agents == ["all"] else FLAGS.agents
    for name in names:
        if name not in agents.AGENTS:
            raise UserError(f"Unknown agent {name!r}.{suggest(name, agents.AGENTS)}")
    widths, counts = numbers("hidden_dims"), numbers("replicas")
    sizes = (widths, FLAGS.num_critics, FLAGS.batch_size, SPEC._replace(horizon=FLAGS.horizon), FLAGS.precision)
    return [deviceless.Request(FLAGS.platform, name, count, *sizes) for count in counts for name in names]


def numbers(name: str) -> tuple[int, ...]:
    """Of a flag that lists them."""
    texts = FLAGS[name].value or []
    if not texts or not all(each.isdecimal() and int(each) for each in texts):
        raise UserError(f"--{name}={','.join(texts)}: expected numbers from 1 on, separated by commas")
    return tuple(map(int, texts))


def prepare_environment() -> None:
    """Of the processes that compile: no device is looked for, and no program is taken from where it is kept."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",  # libtpu would ask a cloud which machine this is
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # beside other commands that compile
    }
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)


def compiled(request: deviceless.Request) -> Row:
    """The row of a program, whatever becomes of it."""
    with contextlib.ExitStack() as stack:
        if FLAGS.keep:
            folder = pathlib.Path(FLAGS.keep, f"{request.platform}-{request.agent}-{request.replicas}")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        else:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        said = folder / "stderr.txt"
        try:
            with stderr_in(said):
                return in_new_process(measure, request, folder)
        except Exception as error:  # whatever stops the compiler is what the row says
            return failed(request, error, said.read_text(errors="replace"))


@contextlib.contextmanager
def stderr_in(path: pathlib.Path) -> Iterator[None]:
    """What processes that are started inside say of themselves goes into a file: XLA is talkative."""
    sys.stderr.flush()
    own = os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)


def continued(
    asked: Sequence[deviceless.Request], path: pathlib.Path | None, make: Callable[[deviceless.Request], Row]
) -> Iterator[Row]:
    """The rows of what is asked for: those of the same code that a file has, the others made, and in the file as soon
    as they are. A row of other code gives way to the new one."""
    known = {key(row): row for row in read(path)} if path and path.exists() else {}
    for request in asked:
        row, code = known.get(key(requested(request))), digest_of_code()
        if row is None or row["code"] != code:
            row = dict.fromkeys(FIELDS, "") | make(request) | {"code": code}
            known[key(row)] = row
            if path:
                write(path, known.values())
        yield row


def run() -> str | None:
    """All rows; what is wrong, if anything is."""
    before = read(pathlib.Path(FLAGS.compare)) if FLAGS.compare else []
    asked, rows = requests(), []
    targets.check_is_there(deviceless.TARGETS[FLAGS.platform])
    prepare_environment()
    for row in continued(asked, FLAGS.csv and pathlib.Path(FLAGS.csv), compiled):
        print(line(row), flush=True)
        if FLAGS.details:
            print(details(row), flush=True)
        rows.append(row)
    print(f"\n{markdown(rows)}")
    problems = [f"{' '.join(key(row))}: {row['error']}" for row in rows if row["error"]]
    problems += map(str, differences(before, rows, FLAGS.tolerance) if FLAGS.compare else [])
    return "\n".join(["error: what differs or fails:", *problems]) if problems else None


def main(_) -> None:
    try:
        problem = run()
    except UserError as error:
        problem = f"error: {error}"
    if problem:
        sys.exit(problem)


if __name__ == "__main__":
    console.prepare()
    FLAGS = flags.FLAGS
    flags.DEFINE_list("agents", ["trqam"], "Algorithms, or all.")
    flags.DEFINE_list("replicas", ["1", "8"], "Numbers of replicas.")
    flags.DEFINE_enum("platform", "gpu", list(deviceless.TARGETS), "An NVIDIA H100, or a TPU v5e.")
    flags.DEFINE_list("hidden_dims", ["512"] * 4, "Widths of all networks.")
    flags.DEFINE_integer("num_critics", 10, "Critics of the ensemble.")
    flags.DEFINE_integer("batch_size", BATCH, "Of a minibatch.")
    flags.DEFINE_integer("horizon", SPEC.horizon, "Length of a chunk of actions.")
    flags.DEFINE_string("precision", "default", "As main.py's --config.precision.")
    flags.DEFINE_string(
        "csv", None, "Where rows are written as they come; those of the same code that are there are kept."
    )
    flags.DEFINE_string("compare", None, "A file of rows to compare with; a difference is an error.")
    flags.DEFINE_float("tolerance", 0.02, "How much a number may differ, as a part of what it was.")
    flags.DEFINE_bool("details", False, "Print kernels by class and products by shape, too.")
    flags.DEFINE_string("keep", None, "A folder in which XLA's files of every program stay.")
    app.run(main)
