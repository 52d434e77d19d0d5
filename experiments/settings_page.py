"""docs/settings.md, written from the settings' declarations: python -m experiments.settings_page"""

import pathlib
from collections.abc import Iterable, Mapping

import agents
from experiments.config import online_settings
from experiments.settings import SECTIONS
from trqam_jax.settings import Effect, Setting, value_type

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "settings.md"
_TITLES = {
    "": "Top level",
    "bc": "Behaviour cloning",
    "data": "Data",
    "train": "Training",
    "online": "Online phase",
    "eval": "Evaluation",
    "run": "Run",
}
_EFFECTS = {
    Effect.RESULT: "results",
    Effect.ROWS: "rows",
    Effect.LENGTH: "length",
    Effect.LOCATION: "-",
    Effect.NONE: "-",
}
_HEAD = """# Settings

<!-- Written by `python -m experiments.settings_page`; a test says when it is stale. -->

Every setting is `--config.SECTION.KEY=VALUE` on the command line; some have a flag of their own besides. Defaults are
those of the code; the protocol and the domain set some of them anew, and `main.py` prints what holds in the end.

*Changes*: **results** means that another value gives other numbers, and so another run folder; **rows** that a run is
only resumed with the same value; **length** that a finished run can be continued with a larger value.

Single whole numbers may be written `100_000` or `1e5`, lists `256,256`. A float of an agent may have several values:
`--config.agent.inv_temp=1,3,10` trains one replica for each, and several such settings the product of their values. Two
exceptions, of which `sweep.py` makes runs of their own: `learning_rate`, which behaviour cloning uses too (unless
`--bc_steps=0`), and a 0 that leaves out a network (QAM-E's `edit_scale`,
QAM-F's `fql_alpha`).
"""


def page() -> str:
    """The page's text."""
    parts = [_HEAD]
    for section, settings in SECTIONS.items():
        own = {f"{section}.{key}" if section else key: setting for key, setting in settings.items()}
        own |= online_settings() if section == "online" else {}
        parts.append(f"## {_TITLES[section]}\n\n{_table(own)}\n")
    parts.append(f"## Every agent\n\n{_table(_agent_keys(agents.SHARED))}\n")
    for name in agents.AGENTS:
        own = {key: setting for key, setting in agents.settings(name).items() if agents.SHARED.get(key) != setting}
        if own:
            parts.append(f"## `--agent={name}`\n\n{_table(_agent_keys(own))}\n")
    return "\n".join(parts)


def _agent_keys(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    return {f"agent.{key}": setting for key, setting in settings.items()}


def _table(settings: Mapping[str, Setting]) -> str:
    lines = ["| setting | flag | default | values | changes | meaning |", "|---|---|---|---|---|---|"]
    lines += [_row([f"`{key}`", *_cells(setting)]) for key, setting in settings.items()]
    return "\n".join(lines)


def _cells(setting: Setting) -> Iterable[str]:
    flag = f"`--{setting.flag}`" if setting.flag else ""
    return flag, _default(setting), _values(setting), _EFFECTS[setting.effect], setting.help


def _default(setting: Setting) -> str:
    if isinstance(setting.default, tuple):
        return f"`{','.join(map(str, setting.default))}`" if setting.default else "none"
    if setting.default in ("", None):
        return "none"
    return f"`{setting.default}`"


def _values(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    text = {"str": "text", "tuple": "list"}.get(value_type(setting).__name__, value_type(setting).__name__)
    if setting.low is not None:
        text += f", at least {setting.low:g}"
    if setting.high is not None:
        text += f", at most {setting.high:g}"
    if setting.multiple_of > 1:
        text += f", a multiple of {setting.multiple_of}"
    return text + (", or none" if setting.optional else "")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
