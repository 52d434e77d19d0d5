"""One file, no network, and nothing that a run left behind is markup."""

import base64
import hashlib
import html.parser
import json
import re
import subprocess
import sys

import pytest
from made_runs import write_run, write_whole_run

from experiments import report
from experiments.analysis.report.collect import collect
from experiments.analysis.report.page import MOST_BYTES, page
from experiments.analysis.rows import read_runs

EVIL = "</script><img src=x onerror=document.title='owned'><!--<script>"


class Elements(html.parser.HTMLParser):
    """The page's elements: (tag, attributes, text up to the next tag)."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])
        self.open = True

    def handle_endtag(self, tag):
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.found[-1][2] += data

    def of(self, tag):
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


def data_of(elements):
    (text,) = [text for attributes, text in elements.of("script") if attributes.get("type") == "application/json"]
    return json.loads(text)


@pytest.fixture
def evil(tmp_path):
    folder = write_whole_run(tmp_path / EVIL.replace("/", "-") / "trqam-0", note=EVIL)
    config = json.loads((folder / "config.json").read_text())
    config["run"]["group"] = EVIL
    (folder / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_nothing_from_a_run_is_markup(evil):
    data = collect(read_runs([evil]))
    text = page({**data, "videos": []})
    elements = Elements(text)
    assert not elements.of("img")
    assert [attributes for attributes, _ in elements.of("script")] == [
        {"type": "application/json", "id": "data"},
        *[{}] * 5,
    ]
    read = data_of(elements)
    assert read["settings"]["shared"]["run.group"] == read["settings"]["shared"]["agent.note"] == EVIL
    assert "onerror" not in re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert "<img" not in text.partition('id="data"')[2].partition("</script>")[0]


def test_scripts_set_text_only():
    scripts = [text for _, text in Elements(page({"videos": []})).of("script")][2:]
    assert len(scripts) == 4
    for text in scripts:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)


def test_the_policy_forbids_the_network_and_other_scripts(evil):
    elements = Elements(page({**collect(read_runs([evil])), "videos": []}))
    (policy,) = [own["content"] for own, _ in elements.of("meta") if own.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        texts = [text for own, text in elements.of(tag) if "type" not in own]
        digest = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule].split() == [f"'sha256-{digest(text)}'" for text in texts]
    loaded = [(tag, own) for tag, own, _ in elements.found if {"src", "href", "data", "style"} & own.keys()]
    assert loaded == [("a", {"class": "skip", "href": "#table"})]


def test_the_librarys_licence_is_in_the_page():
    text = page({"videos": []})
    assert "Copyright (c) 2022 Leon Sorokin" in text
    assert "The above copyright notice and this permission notice shall be included" in text


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        page({"videos": [], "x": float("nan")})


def test_the_command(evil, capsys):
    out = evil / "new" / "report.html"
    report.main([str(evil), f"--out={out}", "--published=trqam_paper"])
    assert re.match(
        rf"{re.escape(str(out))}: 0\.\d+ MB; curves of training have at most 200 points", capsys.readouterr().out
    )
    first = out.read_bytes()
    report.main([str(evil), f"--out={out}", "--published=trqam_paper"])
    assert out.read_bytes() == first  # equal rows leave equal files


def test_videos_fill_what_the_page_leaves(tmp_path, capsys):
    folder = write_run(tmp_path / "trqam-0", [{}])
    (folder / "videos").mkdir()
    for step in (1, 2, 3):
        (folder / "videos" / f"offline-{step}-task1-seed7-0.gif").write_bytes(b"GIF89a" + b"x" * 1_600_000)
    out = tmp_path / "report.html"
    report.main([str(folder), f"--out={out}"])
    assert "2 videos in it, 1 linked by relative paths" in capsys.readouterr().out
    assert MOST_BYTES - 1_000_000 < out.stat().st_size < MOST_BYTES
    videos = data_of(Elements(out.read_text()))["videos"]
    assert [sorted(video) for video in videos] == [["data", "name", "run"]] * 2 + [["link", "name", "run"]]


def test_errors_are_one_line(tmp_path):
    command = [sys.executable, "experiments/report.py", str(tmp_path), f"--out={tmp_path / 'x.html'}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path}: no run there; a run's folder holds config.json and eval.csv\n"
