"""The model card of an exported policy, from its policy.json and its run's rows: for people, no program reads it."""

import json
from typing import Any, NamedTuple

import envs
from experiments.analysis.rows import Run, label
from experiments.row_format import OK
from trqam_jax.policy_files import ARRAYS, FLOW, Manifest


class Result(NamedTuple):
    """One row of eval.csv: of this policy, or of the same method with another seed."""

    task: int
    seed: int
    episodes: int
    success: float  # a fraction


def results(run: Run, phase: str, step: int, *, task: int | None = None, variant: str = "") -> list[Result]:
    """The evaluations at this step, of every seed that has not diverged, and of every task or one; perhaps none."""
    rows = run.eval
    own = rows[(rows.phase == phase) & (rows.step == step) & (rows.variant == variant) & (rows.status == OK)]
    own = own if task is None else own[own.task == task]
    own = own.sort_values(["task", "seed"])
    return [Result(int(row.task), int(row.seed), int(row.episodes), float(row.success)) for _, row in own.iterrows()]


def card(manifest: Manifest, evaluations: list[Result], digest: str, *, sizes: str = "") -> str:
    """README.md of the policy's folder. digest: sha256 of its policy.safetensors."""
    about, domain = manifest.about, envs.DOMAINS[manifest.about["env"]]
    is_flow = manifest.kind == FLOW
    task = "" if is_flow else domain.task_name(about["task"])
    name = "BC" if is_flow else label(manifest.method, {})
    what = f"{name} policy for {task or domain.title}"
    loader = "trqam_jax.policy" if is_flow else "agents.policy"
    lines = [
        *_header(manifest, domain.title, task, what, evaluations),
        f"# {what}",
        "",
        "Exported by trqam_jax, a JAX/Flax suite for fine-tuning flow policies with off-policy RL.",
        "",
        "```python",
        f"from {loader} import load",
        "",
        'policy = load("hub:OWNER/NAME")  # or this folder; @COMMIT after the name pins it',
        "policy.reset()  # at the start of every episode",
        "action = policy(observation)",
        "```",
        "",
        f"`observation` has {manifest.spec.observation_dim} numbers as the simulator gives them"
        + (", which the policy scales itself" if manifest.scaling is not None else "")
        + f"; `action` has {manifest.spec.action_dim}, in [-1, 1]. "
        f"The policy decides on {manifest.spec.horizon} action(s) at a time and hands them out one by one.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in _facts(manifest, task, sizes).items()),
        f"| sha256 of {ARRAYS} | {digest} |",
        "",
        "## Success",
        "",
        *_table(manifest, evaluations),
        "",
    ]
    return "\n".join(lines)


def _header(manifest: Manifest, title: str, task: str, what: str, evaluations: list[Result]) -> list[str]:
    """YAML, whose values are JSON: that is YAML, too, and nothing in it can be a tag."""
    method = manifest.method.replace("_", "-")
    fields: dict[str, Any] = {
        "library_name": "trqam_jax",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "robotics", "flow-matching", "jax", method, title],
    }
    own = [one for one in evaluations if one.seed == manifest.about.get("seed")]  # a BC policy has no task or seed
    if own:
        metric = {"type": "success_rate", "name": f"success over {own[0].episodes} episodes", "value": own[0].success}
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": task, "type": title},
            "metrics": [metric],
        }
        fields["model-index"] = [{"name": what, "results": [result]}]
    return ["---", *(f"{key}: {json.dumps(value)}" for key, value in fields.items()), "---", ""]


def _facts(manifest: Manifest, task: str, sizes: str) -> dict[str, Any]:
    about = manifest.about
    provenance = about.get("provenance") or {}
    facts = {
        "environment": about["env"],
        "task": task,
        "method": manifest.method,
        "settings of this variant": about.get("variant"),
        "protocol": about.get("protocol"),
        "episodes cut at": about.get("episode_limit"),
        "phase": about.get("phase"),
        "steps": f"{about['steps']:,}",
        "seed": about.get("seed"),
        "network": sizes,
        "imported from": " ".join(filter(None, map(provenance.get, ("repository", "revision", "file")))),
        "trained with": ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items()),
        "exported by": about["exported_by"],
    }
    return {key: value for key, value in facts.items() if value not in ("", None)}


def _table(manifest: Manifest, evaluations: list[Result]) -> list[str]:
    if not evaluations:
        return ["No evaluation of it is known where it was exported."]
    own = manifest.about.get("seed")
    rows = [
        f"| {one.task} | {one.seed}{' (this policy)' * (one.seed == own)} | {one.episodes} | {100 * one.success:.1f} |"
        for one in evaluations
    ]
    mean = 100 * sum(one.success for one in evaluations) / len(evaluations)
    lines = ["| task | seed | episodes | success, % |", "|---|---|---|---|", *rows]
    return [*lines, "", f"Mean over {len(evaluations)} rows: {mean:.1f} %."] if len(evaluations) > 1 else lines


def _cell(value: Any) -> str:
    """A value as text in a table: no markup of Markdown or HTML is left in it."""
    text = " ".join(str(value).split())
    for character in "\\`*_[]<>|!":
        text = text.replace(character, f"&#{ord(character)};")
    return text
