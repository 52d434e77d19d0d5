"""What is printed where it cannot be encoded, or where nobody reads it."""

import ast
import os
import pathlib
import pty
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CLEAN = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
WITHOUT_OUTPUT = {"experiments/settings_page.py", "experiments/sweeps/attempt.py"}  # a file; becomes another program
SCRIPT = r"""
import os, pathlib, sys
from tqdm import tqdm
from trqam_jax import console
console.prepare()
print("12 \u00b1 3 \u00e9", os.fsdecode(b"\xff"), flush=True)
print(sys.stdin.readline())
for stream in (sys.stdout, sys.stderr):
    for _ in range(3):
        print("more" * 5000, file=stream, flush=True)
tqdm.write("and more")
pathlib.Path("done").write_text("")
"""


def command(*arguments, **environment):
    """Started in the checkout, with pipes."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env={**CLEAN, **environment}, **pipes)


def script(tmp_path, *, stdin=b"", code=SCRIPT, **options):
    environment = {**CLEAN, "PYTHONPATH": str(ROOT), **options.pop("environment", {})}
    arguments = [sys.executable, *options.pop("flags", ()), "-c", code]
    return subprocess.run(arguments, cwd=tmp_path, env=environment, input=stdin, check=False, **options)


def test_what_cannot_be_encoded_is_replaced(tmp_path):
    found = script(tmp_path, capture_output=True, environment=ASCII)
    assert found.stdout.splitlines()[0] == b"12 +- 3 \\xe9 \xff"
    found = script(tmp_path, capture_output=True, environment={"PYTHONUTF8": "1"})
    assert found.stdout.splitlines()[0] == "12 \u00b1 3 \u00e9 ".encode() + b"\xff"
    assert found.stderr.startswith(b"more")


@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_a_reader_that_goes_stops_nothing(flags, tmp_path):
    environment = {**CLEAN, "PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, *flags, "-c", SCRIPT], cwd=tmp_path, env=environment, **pipes) as process:
        assert process.stdout.readline().startswith(b"12")
        process.stdout.close()
        process.stderr.close()
        process.stdin.close()
        assert process.wait() == 0
    assert (tmp_path / "done").exists()


def test_what_is_closed_from_the_first_is_not_taken_by_a_file(tmp_path):
    """Else a table would get what is printed to it."""
    closing = f"exec '{sys.executable}' -c \"$CODE\" <&- >&- 2>&-"
    file = "pathlib.Path('table').open('w').write(str(os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev))"
    code = SCRIPT.replace("print(sys.stdin.readline())", file)
    environment = {**CLEAN, "PYTHONPATH": str(ROOT), "CODE": code}
    assert subprocess.run(["sh", "-c", closing], cwd=tmp_path, env=environment, check=False).returncode == 0
    assert (tmp_path / "done").exists()
    assert (tmp_path / "table").read_text() == "True"


def test_a_full_disk_is_still_an_error(tmp_path):
    with open("/dev/full", "wb") as full:
        found = script(tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert found.returncode != 0
    assert b"No space left on device: 'standard output'" in found.stderr  # not of which file the system says it
    assert not (tmp_path / "done").exists()


def test_a_terminal_that_is_gone_stops_nothing(tmp_path):
    ours, theirs = pty.openpty()
    os.close(ours)
    with open(theirs, "wb", buffering=0) as gone:
        assert script(tmp_path, stdout=gone, stderr=gone).returncode == 0
    assert (tmp_path / "done").exists()


def test_a_file_that_cannot_be_written_is_still_an_error(tmp_path):
    """Of a broken disk the error is that of a terminal which is gone; here it is of an address that nothing is at."""
    with open("/proc/self/mem", "wb", buffering=0) as broken:
        found = script(tmp_path, stdout=broken, stderr=subprocess.PIPE)
    assert found.returncode != 0
    assert b"Input/output error" in found.stderr
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "arguments", [["experiments/main.py", "--list"], ["experiments/table.py", "--published=trqam_paper"]]
)
def test_commands_end_well_where_only_their_first_line_is_read(arguments):
    with command(*arguments, **ASCII, PYTHONUNBUFFERED="1") as process:
        assert process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
        assert (process.wait(), error) == (0, b"")


def test_a_table_in_ascii():
    with command("experiments/table.py", "--published=trqam_paper", **ASCII) as process:
        output, error = process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert b" +- " in output
    assert output.isascii()


def test_every_command_prepares_its_output():
    """Where it begins, or where the suites' commands are handed over."""
    for path in (path for room in ("experiments", "envs", "benchmarks") for path in (ROOT / room).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
                first, name = ast.unparse(node.body[0]), str(path.relative_to(ROOT))
                assert first.startswith(("console.prepare()", "hand_over(")) or name in WITHOUT_OUTPUT, name
