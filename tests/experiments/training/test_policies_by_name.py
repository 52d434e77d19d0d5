"""BC policies by name, from a hub on this machine: found, imported once, checked, and there without a network."""

import json
import pathlib
import socket
import threading
import time

import hub_server
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_vectors import FOLDER, SPEC, assert_close

import envs
from experiments import config as configuration
from experiments.training import policies_by_name, pretrained
from experiments.training.inputs import locate
from experiments.training.policy_export import Choice, export
from experiments.training.replica import replicas_of
from trqam_jax import checkpoint, hub, policy_files
from trqam_jax.errors import UserError
from trqam_jax.files import sha256
from trqam_jax.flow import sample_ode
from trqam_jax.networks import Velocity, bind

DOMAIN = envs.DOMAINS["cube-double"]
RELEASED = envs.suite_of(DOMAIN).bc_policies
PICKLE = (FOLDER / "peer_checkpoint.pkl").read_bytes()


def release(*, config=None, folder="cube-double-play", pickle=PICKLE):
    """Files as the authors' repository has them: of this domain, and of two others."""
    files = {}
    for name, env in ((folder, config or "cube-double-play-singletask-task2-v0"), ("scene-play", "scene-play-v0")):
        files[f"{name}/config.json"] = json.dumps({"seed": 10001, "env_name": env}).encode()
        files[f"{name}/{RELEASED.file}"] = pickle
    files["c3/config.json"] = json.dumps({"agent": {"dataset_dir": "/x/cube-triple-play-100m-v0/"}}).encode()
    return {**files, f"c3/{RELEASED.file}": pickle}


@pytest.fixture
def server(tmp_path, monkeypatch):
    with hub_server.hub() as server:
        hub_server.use(monkeypatch, server, tmp_path)
        yield server


@pytest.fixture
def small(monkeypatch):
    """The domain with the sizes of the reference vectors."""
    sizes = {"observation_dim": SPEC.observation_dim, "action_dim": SPEC.action_dim}
    monkeypatch.setitem(envs.DOMAINS, "cube-double", DOMAIN._replace(**sizes))


def make_config(given="released", env="cube-double", **agent):
    overrides = {"agent.hidden_dims": "16,16,16", **{f"agent.{key}": value for key, value in agent.items()}}
    settings = {"bc.steps": 0, "bc.checkpoint": given}
    return configuration.resolve(agent="trqam", env=env, seeds=["4", "5"], settings=settings, overrides=overrides)


def refusal(config):
    with pytest.raises(UserError) as refused:
        policies_by_name.pinned(config)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_released_policy_acts_as_it_did(server, small, tmp_path, monkeypatch, capsys):
    commit = server.commit(RELEASED.repository, release())
    config = policies_by_name.pinned(make_config())
    assert config.bc.checkpoint == f"released@{commit}"
    assert f"released: is released@{commit}" in capsys.readouterr().out
    place = policies_by_name.folder(config)
    meta = checkpoint.read_meta(place, checkpoint.POLICY)
    assert meta["provenance"] == {
        "repository": RELEASED.repository,
        "revision": commit,
        "file": f"cube-double-play/{RELEASED.file}",
        "sha256": sha256([PICKLE]),
    }
    assert (meta["env"], meta["steps"]) == ("cube-double", 300_000)
    velocity, steps = pretrained.load(place, config, envs.DOMAINS["cube-double"], replicas_of(config))
    assert steps == 300_000
    with np.load(FOLDER / "peer_checkpoint_expected.npz") as file:
        expected = {name: jnp.asarray(array) for name, array in file.items()}
    params = jax.tree.map(lambda x: x[1], velocity)
    with jax.default_matmul_precision("highest"):
        field = bind(Velocity((16, 16, 16), SPEC.chunk_dim), params, expected["observations"])
        actions = jnp.clip(sample_ode(field, expected["noise"], int(expected["flow_steps"])), -1, 1)
    assert_close(actions, expected["base_action"], "actions")

    # What was resolved once needs no hub, whether a newer commit is there or not; a name without one sees the newer.
    newer = server.commit(RELEASED.repository, {**release(), "more": b""})
    server.requests.clear()
    again = policies_by_name.pinned(config)
    assert (again.bc.checkpoint, policies_by_name.folder(again), server.requests) == (f"released@{commit}", place, [])
    assert policies_by_name.pinned(make_config()).bc.checkpoint == f"released@{newer}"
    server.requests.clear()
    hub_server.use(monkeypatch, server, tmp_path, offline=True)
    assert policies_by_name.pinned(make_config()).bc.checkpoint == f"released@{newer}"
    assert not server.requests
    assert "HF_HUB_OFFLINE" in refusal(make_config("hub:some/other"))


@pytest.mark.parametrize(
    ("files", "env", "found"),
    [
        (release(), "cube-triple", "c3"),  # by its config.json alone
        (release(folder="cube_double", config="no environment"), "cube-double", "cube_double"),
        (release(folder="mine"), "cube-double", "mine"),
        (release(config="scene-play-v0"), "cube-double", None),  # name and content disagree
        (release(config="scene-play-v0"), "scene", None),  # two folders
        (release(), "puzzle-3x3", None),
        ({"cube-double/config.json": b"[" * 100_000}, "cube-double", "cube-double"),
        ({"cube-double/config.json": b"\x80nonsense"}, "cube-double", "cube-double"),
        ({}, "scene", None),
    ],
)
def test_a_domains_folder_is_found_or_what_is_there_is_listed(tmp_path, files, env, found):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    snapshot = hub.Snapshot(tmp_path, hub.Name("a/b"))
    if found:
        assert policies_by_name._folder_of(envs.DOMAINS[env], snapshot) == found
    else:
        with pytest.raises(UserError, match="not clear") as refused:
            policies_by_name._folder_of(envs.DOMAINS[env], snapshot)
        assert all(path.partition("/")[0] in str(refused.value) for path in files)


@pytest.mark.parametrize("env", ["cube-single", "robomimic-can"])
def test_a_domain_without_one_lists_those_that_have_one(server, env):
    message = refusal(make_config(env=env))
    assert env in message
    assert all(name in message for name in RELEASED.domains)
    assert not server.requests


def test_other_sizes_are_one_clear_error(server, small):
    server.commit(RELEASED.repository, release())
    message = refusal(make_config(hidden_dims="32,32", actor_layer_norm="true"))
    assert "16,16,16 without layer norm" in message
    assert "32,32 with layer norm" in message
    way_out = "--config.agent.actor_hidden_dims=16,16,16 --config.agent.actor_layer_norm=false"
    assert message.endswith(way_out)
    fitting = make_config(hidden_dims="32,32", actor_hidden_dims="16,16,16")
    assert policies_by_name.pinned(fitting).bc.checkpoint.startswith("released@")


def test_another_environments_policy_is_an_error(server):
    server.commit(RELEASED.repository, release())
    assert "observations of 7 numbers" in refusal(make_config())


def test_a_pickle_that_is_a_program_is_refused(server, small, tmp_path):
    program = f"cos\nsystem\n(S'touch {tmp_path / 'canary'}'\ntR.".encode()
    server.commit(RELEASED.repository, release(pickle=program))
    assert "not loaded: it names 'os.system'" in refusal(make_config())
    assert not (tmp_path / "canary").exists()


def test_two_at_once_make_it_once(server, small, monkeypatch):
    server.commit(RELEASED.repository, release())
    made, original = [], policies_by_name.import_checkpoint

    def slowly(*args, **kwargs):
        made.append(args)
        time.sleep(0.3)  # the other one comes to the lock meanwhile
        return original(*args, **kwargs)

    monkeypatch.setattr(policies_by_name, "import_checkpoint", slowly)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(policies_by_name.pinned(make_config()).bc.checkpoint))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 2


def test_where_the_hub_does_not_answer(server, tmp_path, monkeypatch):
    repository = "some/policy"
    for status, headers, named in (
        (401, {"X_Error_Code": "GatedRepo"}, "gated"),
        (403, {"X_Error_Code": "GatedRepo"}, "gated"),
        (403, {}, "HF_TOKEN"),
        (404, {"X_Error_Code": "RepoNotFound"}, "no such repository"),
        (500, {}, "500"),
    ):
        server.statuses[repository] = status, headers
        assert named in refusal(make_config(f"hub:{repository}"))
    server.statuses.clear()
    server.commit(repository, {"a": b""})
    assert "no revision 'v9'" in refusal(make_config(f"hub:{repository}@v9"))
    assert "no exported policy" in refusal(make_config(f"hub:{repository}"))
    for name in ("hub:", "hub:x", "hub:a/b/c", "hub:../b", "hub:a/b@", "hub:a/..", "hub:a/b@../c"):
        assert "expected owner/name" in refusal(make_config(name))
    hub_server.use(monkeypatch, "http://127.0.0.1:9", tmp_path)
    assert "cannot be reached" in refusal(make_config(f"hub:{repository}"))


def test_a_hub_that_fails_or_is_silent_is_asked_once(server, tmp_path, monkeypatch):
    """Also for a commit, of which huggingface_hub itself would ask six times, or wait for ever."""
    names = [hub.Name("some/policy"), hub.Name("some/policy", "c" * 40)]
    server.statuses["some/policy"] = 500, {}
    for number, name in enumerate(names):
        with pytest.raises(UserError, match="status 500"):
            hub.fetch(name, ["a"])
        assert len(server.requests) == number + 1
    monkeypatch.setattr(hub, "LONGEST_SILENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub_server.use(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
        for name in names:
            with pytest.raises(UserError, match="cannot be reached"):
                hub.fetch(name, ["a"])


def test_a_silent_hub_is_not_pushed_to_for_ever(tmp_path, monkeypatch):
    (tmp_path / "policy.json").write_text("{}")
    monkeypatch.setattr(hub, "LONGEST_SILENCE_PUSHING", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub_server.use(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path / "home")
        with pytest.raises(UserError, match="hub:some/policy: the hub cannot be reached"):
            hub.push(tmp_path, "some/policy", ["policy.json"])


def test_a_run_starts_from_what_was_pushed(server, tmp_path, capsys):
    """Export, push, and start from it by name: the same parameters, fingerprint and scaling."""
    domain = envs.DOMAINS["cube-single"]
    network = Velocity((8, 8), domain.horizon * domain.action_dim)
    sizes = jnp.zeros(domain.observation_dim), jnp.zeros(network.chunk_dim), jnp.zeros(1)
    velocity = network.init(jax.random.key(1), *sizes)["params"]
    scaling = {"low": [-1.0] * domain.observation_dim, "high": [0.5] * domain.observation_dim}
    meta = {"env": "cube-single", "steps": 40, "seeds": [3], "scaling": scaling}
    checkpoint.save_params(tmp_path / "bc", jax.tree.map(lambda x: x[None], velocity), meta)
    export(tmp_path / "bc", tmp_path / "out", Choice())
    (tmp_path / "out" / "secret.txt").write_text("not for others")
    url, name = hub.push(tmp_path / "out", "me/bc", policy_files.FILES)
    assert (url, name.repository, name.is_pinned) == (f"{server.url}/me/bc", "me/bc", True)
    assert set(server.at("me/bc", "main")[1]) == set(policy_files.FILES)
    hub.push(tmp_path / "out", "me/bc", policy_files.FILES)  # it may be there already

    config = policies_by_name.pinned(make_config("hub:me/bc", "cube-single", hidden_dims="8,8"))
    place = policies_by_name.folder(config)
    found = checkpoint.read_meta(place, checkpoint.POLICY)
    assert found["fingerprint"] == checkpoint.read_meta(tmp_path / "bc")["fingerprint"]
    assert (found["scaling"], found["env"], found["steps"]) == (scaling, "cube-single", 40)
    assert found["provenance"]["repository"] == "me/bc"
    loaded, _ = pretrained.load(place, config, domain, replicas_of(config))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), loaded, velocity)
    server.requests.clear()
    assert policies_by_name.pinned(config).bc.checkpoint == config.bc.checkpoint
    assert not server.requests
    assert pathlib.Path(place).is_relative_to(tmp_path / "xdg")


def test_a_path_stays_a_path(tmp_path):
    config = make_config(str(tmp_path / "released"))
    assert policies_by_name.pinned(config) is config
    assert policies_by_name.folder(config) == tmp_path / "released"
    assert policies_by_name.folder(configuration.resolve(agent="trqam", env="cube-double")) is None


def test_a_folder_without_a_bc_policy_says_what_is_one(tmp_path):
    checkpoint.save(tmp_path / "bc-20", {"x": np.zeros(2)}, {})
    for folder, reason in ((tmp_path, "it has no trqam_jax.json"), (tmp_path / "bc-20", "another kind of checkpoint")):
        with pytest.raises(UserError, match=rf"{folder}.*{reason}.*expected a folder like cloned-\*/checkpoints/STEPS"):
            locate(make_config(str(folder)))
