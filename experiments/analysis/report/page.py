"""The page: one file with its data, scripts and styles, which asks no network for anything."""

import base64
import hashlib
import json
import pathlib
import re
import string
from collections.abc import Sequence
from typing import Any

_HERE = pathlib.Path(__file__).parent
STYLES = ("vendor/uPlot.min.css", "report.css")
SCRIPTS = ("vendor/uPlot.iife.min.js", "charts.js", "table.js", "compare.js", "report.js")
LICENCE = "vendor/uPlot.LICENSE"  # goes wherever the library goes
MOST_BYTES = 5_000_000  # with embedded videos; without them a page may be larger, and is then said to be


def page(data: dict[str, Any]) -> str:
    """The HTML file. Nothing of the data is in it outside the block of JSON."""
    styles, scripts = ([(_HERE / name).read_text() for name in names] for names in (STYLES, SCRIPTS))
    return string.Template((_HERE / "template.html").read_text()).substitute(
        policy=policy(styles, scripts),
        licence=(_HERE / LICENCE).read_text(),
        styles="\n".join(f"<style>{text}</style>" for text in styles),
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
        data=as_json(data),
    )


def as_json(data: dict[str, Any]) -> str:
    """For a script element of type application/json: no `<`, so nothing in it ends the element or begins a comment.

    Escaped, too: halves of letters, as which bytes of folders' names are read that are no text.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return re.sub("[<\ud800-\udfff]", lambda letter: f"\\u{ord(letter[0]):04x}", text)


def policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """A Content-Security-Policy: these styles and scripts, images from the file itself, nothing else."""
    style, script = (" ".join(map(_hash, texts)) for texts in (styles, scripts))
    rest = "base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; img-src data:; style-src {style}; script-src {script}; {rest}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
