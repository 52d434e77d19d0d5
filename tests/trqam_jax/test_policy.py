"""A flow policy's folder: it acts as behaviour cloning's agent does, and what is damaged or made to harm is refused."""

import json
import pathlib
import struct

import jax
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from trqam_jax import policy_files
from trqam_jax.errors import UserError
from trqam_jax.evaluation import policy as chunks_of
from trqam_jax.files import sha256_file
from trqam_jax.policy import FlowSizes, flow_manifest, load
from trqam_jax.policy_files import ARRAYS, CARD, MANIFEST, Noise
from trqam_jax.scaling import Scaling
from trqam_jax.streams import make_streams

SPEC = tiny.SPEC
NOISE = Noise(seed=7, phase="bc", step=40)
SCALING = Scaling(np.full(4, -2, np.float32), np.full(4, 3, np.float32))


def write(folder, *, layer_norm=False, scaling=None):
    """A fresh BC policy in `folder`, and its agent."""
    agent = tiny.agent("bc", actor_layer_norm=layer_norm)
    velocity = agent.train.params["actor"]
    manifest, arrays = flow_manifest(
        velocity, flow_steps=2, spec=SPEC, scaling=scaling, noise=NOISE, about={"env": "e", "steps": 40}
    )
    policy_files.write(folder, manifest, arrays, lambda digest: f"# a card of {digest}\n")
    return agent


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "policy")
    return tmp_path / "policy"


def observations(n):
    return np.random.default_rng(0).normal(size=(n, SPEC.observation_dim)).astype(np.float32)


@pytest.mark.parametrize(("layer_norm", "scaling"), [(False, None), (True, SCALING)])
def test_it_acts_as_the_agent_does_in_evaluations(tmp_path, layer_norm, scaling):
    """To the bit: chunk by chunk, with the noise of (seed, phase, step, episode, decision)."""
    agent = write(tmp_path / "policy", layer_norm=layer_norm, scaling=scaling)
    one = jax.tree.map(lambda x: np.asarray(x)[None], agent)
    key = jax.random.fold_in(make_streams(NOISE.seed, NOISE.phase).evaluation, NOISE.step)[None]
    acts = load(tmp_path / "policy")
    for episode in range(2):
        acts.reset()
        xs = observations(2 * SPEC.horizon + 1)
        actions = [acts(x) for x in xs]
        for decision in range(3):
            x = xs[decision * SPEC.horizon]
            x = x if scaling is None else scaling.apply(x)
            chunk = chunks_of(one, x[None, None], key, np.array([[episode]]), np.array([[decision]]))[0, 0]
            played = actions[decision * SPEC.horizon : (decision + 1) * SPEC.horizon]
            np.testing.assert_array_equal(played, chunk[: len(played)])


def test_episodes_and_seeds(folder):
    acts, other = load(folder), load(folder, seed=8)
    x = observations(1)[0]
    first = acts(x)
    assert first.shape == (SPEC.action_dim,)
    assert first.dtype == np.float32
    assert (other(x) != first).any()
    assert (acts.chunk(x)[0] != first).any()  # another decision
    acts.reset()
    assert (acts(x) != first).any()  # another episode
    acts.reset(episode=0)
    np.testing.assert_array_equal(acts(x), first)
    with pytest.raises(UserError, match=r"shape \(3,\), expected \(4,\)"):
        acts.chunk(x[:3])


@pytest.mark.parametrize(
    ("observation", "named"),
    [
        ([0, 0, 0, np.nan], "nan or infinite numbers, at 3;"),
        ([np.inf, 0, 1e300, 0], "at 0, 2;"),
        ([0, 0], r"shape \(2,\), expected \(4,\)"),
        ("abc", "no array of numbers"),
        ([0, 0, 0, 1j], "no array of numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_an_observation_that_is_none_is_refused(folder, observation, named):
    with pytest.raises(UserError, match=named):
        load(folder)(observation)


@pytest.mark.parametrize("number", [-1, 2**40, 1.5, "a", True])
def test_an_episode_and_a_seed_are_whole_numbers(folder, number):
    with pytest.raises(UserError, match=f"seed={number!r}: expected a whole number from 0"):
        load(folder, seed=number)
    with pytest.raises(UserError, match=f"episode={number!r}: expected a whole number from 0"):
        load(folder).reset(episode=number)


def test_sizes_are_read_from_shapes():
    velocity = tiny.agent("bc", actor_layer_norm=True, hidden_dims=(8, 6)).train.params["actor"]
    expected = FlowSizes((8, 6), True, SPEC.observation_dim, SPEC.chunk_dim)
    assert FlowSizes.of(velocity) == FlowSizes.of(jax.tree.map(lambda x: x[None], velocity)) == expected


def test_nothing_is_overwritten(folder):
    with pytest.raises(UserError, match="exists already"):
        write(folder)
    assert {path.name for path in folder.iterdir()} == set(policy_files.FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


# ---- what a stranger may have written


def refusal(folder):
    with pytest.raises(UserError) as refused:
        load(folder)
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def change(folder, **fields):
    path = folder / MANIFEST
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({**content, "checksum": policy_files.checksum(content)}))


def replace_arrays(folder, content):
    """Other bytes, with the digest that belongs to them."""
    (folder / ARRAYS).write_bytes(content)
    change(folder, digest=sha256_file(folder / ARRAYS))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"format": 2}, "format is 2"),
        ({"format": None}, "format"),
        ({"kind": "pickle"}, "kind"),
        ({"kind": ["flow"]}, "kind"),
        ({"method": "../../etc/passwd"}, "method"),
        ({"method": "os.system"}, "method"),
        ({"settings": []}, "settings"),
        ({"settings": {"hidden_dims": [8, 8], "layer_norm": False, "flow_steps": 2, "more": 1}}, "hidden_dims"),
        ({"settings": {"hidden_dims": "8", "layer_norm": False, "flow_steps": 2}}, "hidden_dims"),
        ({"settings": {"hidden_dims": [8, -8], "layer_norm": False, "flow_steps": 2}}, "hidden_dims"),
        ({"settings": {"hidden_dims": [8] * 1000, "layer_norm": False, "flow_steps": 2}}, "hidden_dims"),
        ({"settings": {"hidden_dims": [8, 8], "layer_norm": 0, "flow_steps": 2}}, "layer_norm"),
        ({"settings": {"hidden_dims": [8, 8], "layer_norm": False, "flow_steps": 10**12}}, "flow_steps"),
        ({"settings": {"hidden_dims": [8, 8], "layer_norm": True, "flow_steps": 2}}, "LayerNorm_0"),
        ({"settings": {"hidden_dims": [8, 9], "layer_norm": False, "flow_steps": 2}}, "shape"),
        ({"spec": None}, "spec"),
        ({"spec": {"observation_dim": 4, "action_dim": 2, "horizon": True}}, "horizon"),
        ({"spec": {"observation_dim": 4, "action_dim": 2, "horizon": 10**15}}, "horizon"),
        ({"spec": {"observation_dim": 5, "action_dim": 2, "horizon": 3}}, "Dense_0"),
        ({"scaling": {"low": [0], "high": [1]}}, "scaling"),
        ({"scaling": {"low": ["x"] * 4, "high": [1] * 4}}, "scaling"),
        ({"scaling": "!!python/object/apply:os.system ['touch x']"}, "scaling"),
        ({"precision": "float0"}, "precision"),
        ({"precision": "a b"}, "precision"),
        ({"noise": {"seed": -1, "phase": "bc", "step": 0}}, "seed"),
        ({"noise": {"seed": 1, "phase": "../bc", "step": 0}}, "phase"),
        ({"about": "text"}, "about"),
        ({"digest": "0"}, "digest"),
        ({"digest": "0" * 64}, "does not match the digest"),
    ],
)
def test_what_policy_json_may_not_say(folder, fields, named):
    change(folder, **fields)
    assert named in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1, 2]",
        b"{",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"format": 1, "kind": NaN}',
        b'{"format": ' + b"1" * 10_000 + b"}",
        b" " * (policy_files.MAX_JSON + 1),
        b"!!python/object/apply:os.system ['touch x']",
        b"\x80\x04cos\nsystem\n.",
    ],
)
def test_what_is_no_json(folder, content):
    (folder / MANIFEST).write_bytes(content)
    assert MANIFEST in refusal(folder)


def test_damage_to_policy_json_is_noticed(folder):
    """It holds where the noise comes from: with another digit the policy would act otherwise."""
    path = folder / MANIFEST
    text = path.read_text()
    path.write_text(text.replace('"step": 40', '"step": 41'))
    assert "checksum" in refusal(folder)
    content = json.loads(text)
    del content["checksum"]  # as earlier versions wrote it
    path.write_text(json.dumps(content))
    assert load(folder).spec == SPEC


@pytest.mark.parametrize("name", ["hf://a/b", "hf:a/b", "HUB:a/b", " hub:a/b", "https://huggingface.co/a/b"])
def test_other_spellings_of_the_hub_are_no_paths(name):
    assert "hub:owner/name" in refusal(name)


def test_another_kind_says_who_loads_it(folder):
    change(folder, kind="agent", method="trqam")
    assert "agents.policy" in refusal(folder)


def header(length, text=b""):
    return struct.pack("<Q", length) + text


def test_what_is_no_safetensors(folder):
    whole = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(whole[:-1])
    assert "digest" in refusal(folder)
    outside = b'{"velocity/Dense_0/bias": {"dtype": "F32", "shape": [8], "data_offsets": [1000000, 1000032]}}'
    for content in (
        b"",
        whole[:7],
        whole[:100],
        whole[:-1],
        whole + b"more",
        header(2**63),
        header(2**40, b"{}"),
        header(len(b"{" * 5000), b"{" * 5000),
        header(len(outside), outside),
        b"\x80\x04cos\nsystem\n.",
    ):
        replace_arrays(folder, content)
        assert "no safetensors" in refusal(folder)


def test_what_arrays_may_not_be(folder):
    arrays = load_file(folder / ARRAYS)
    name = "velocity/Dense_1/kernel"
    for value in (np.nan, np.inf):
        changed = {**arrays, name: np.where(np.arange(8) == 3, value, arrays[name]).astype(np.float32)}
        save_file(changed, folder / "other")
        replace_arrays(folder, (folder / "other").read_bytes())
        assert "not finite" in refusal(folder)
    for other, named in (
        ({name: arrays[name].astype(np.float64)}, "F64"),
        ({name: arrays[name][:-1]}, "shape"),
        ({"velocity/../../../etc/passwd": np.zeros(1, np.float32)}, "does not know"),
        ({"velocity/Dense_9\n/kernel": np.zeros(1, np.float32)}, "does not know"),
    ):
        save_file({**arrays, **other}, folder / "other")
        replace_arrays(folder, (folder / "other").read_bytes())
        assert named in refusal(folder)
    del arrays[name]
    save_file(arrays, folder / "other")
    replace_arrays(folder, (folder / "other").read_bytes())
    assert f"no array {name}" in refusal(folder)


def test_a_card_is_never_read(folder):
    (folder / CARD).write_text(
        "---\na: !!python/object/apply:os.system ['touch canary']\n---\n<script>alert(1)</script>{{7*7}}\n"
    )
    assert load(folder).spec == SPEC
    (folder / CARD).unlink()
    assert load(str(folder)).spec == SPEC


def test_a_folder_without_a_policy(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=MANIFEST):
            load(path)
    write(tmp_path / "policy")
    pathlib.Path(tmp_path / "policy" / ARRAYS).unlink()
    assert ARRAYS in refusal(tmp_path / "policy")
