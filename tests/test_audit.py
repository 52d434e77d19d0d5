"""The audit of the lock files fails on what is known to be vulnerable, and never passes off silence as a pass."""

import json
import pathlib
import runpy
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOUND, UNKNOWN = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "X-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}]}
NO_NETWORK = (1, "", "Traceback\nrequests.exceptions.ConnectionError: no route")


def answer(*packages):
    return int(BAD in packages), json.dumps({"dependencies": packages, "fixes": []}), "Found or not"


@pytest.fixture
def audited(monkeypatch, capsys):
    """What is said and what it ends with, by the databases' answers in turn."""
    audit = runpy.run_path(str(ROOT / ".ci" / "audit.py"))

    def audited(*answers):
        turns = iter(answers)
        done = lambda command, **_: subprocess.CompletedProcess(command, *next(turns))
        monkeypatch.setattr(subprocess, "run", done)
        try:
            audit["main"](["lock.txt"])
            end = ""
        except SystemExit as stopped:
            end = str(stopped)
        return capsys.readouterr().out, end

    return audited


def test_what_is_known_fails(audited):
    said, end = audited(answer(SOUND, BAD))
    assert said == "audit of lock.txt: 2 of 2 packages were checked, 1 known vulnerabilities\n"
    assert end.startswith("lock.txt: c 2: X-1, CVE-1, fixed in 2.1\n")


def test_nothing_known_passes(audited):
    assert audited(answer(SOUND)) == ("audit of lock.txt: 1 of 1 packages were checked, 0 known vulnerabilities\n", "")


@pytest.mark.parametrize("answers", [(NO_NETWORK, NO_NETWORK), (answer(UNKNOWN), NO_NETWORK), (answer(UNKNOWN),) * 2])
def test_without_an_answer_nothing_was_checked(audited, answers):
    said, end = audited(*answers)
    assert "nothing was checked" in said
    assert "vulnerabilities can be asked" in said
    assert end == ""


def test_the_second_database_is_asked_for_what_the_first_does_not_know(audited):
    said, end = audited(answer(SOUND, UNKNOWN), answer(SOUND, BAD))
    assert "2 of 2 packages" in said
    assert "X-1" in end
    assert "1 of 2 packages were checked" in audited(answer(SOUND, UNKNOWN), NO_NETWORK)[0]


def test_an_audit_that_breaks_is_no_pass(audited):
    assert "status 2: error: no such option" in audited((2, "", "usage\nerror: no such option"))[1]


def test_without_the_tool_nothing_was_checked(tmp_path, monkeypatch, capsys):
    audit = runpy.run_path(str(ROOT / ".ci" / "audit.py"))
    monkeypatch.setitem(audit["ask"].__globals__, "TOOL", tmp_path / "none")
    audit["main"](["lock.txt"])
    assert "nothing was checked" in capsys.readouterr().out
