"""The README: short, and its library example runs."""

import pathlib
import re

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def test_it_is_short():
    assert len(README.split()) < 1500


def test_its_library_example_runs(capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    rooms = set(re.findall(r"^(?:import|from) (\w+)", example, re.MULTILINE))
    assert rooms == {"jax", "agents", "trqam_jax"}
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["chunk"].shape == (1, 5, 2)
    assert capsys.readouterr().out.startswith("path KL ")
