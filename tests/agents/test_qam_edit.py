"""QAM-E against the released implementation's reference vectors."""

import jax
from golden_vectors import (
    Case,
    Vectors,
    assert_close,
    check_adjoints,
    check_four_updates,
    check_gradients,
    check_one_update,
)

from agents.shared import flow_chunks
from trqam_jax.entropy import tanh_sample
from trqam_jax.networks import bind

CASE = Case(
    "qam_edit",
    noise={
        "next_action": "next_action_noise",
        "next_edit": "next_edit_eps",
        "edit_x0": "extra_flow_noise",
        "edit": "edit_eps",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
        "rollout_x0": "rollout_x0",
        "rollout_eps": "rollout_noise",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "flow_loss": "actor/flow_loss",
        "adjoint_loss": "actor/adj_loss",
        "edit_q_loss": "actor/edit_q_loss",
        "edit_entropy_loss": "actor/edit_entropy_loss",
        "edit_alpha_loss": "actor/edit_alpha_loss",
        "edit_alpha": "actor/edit_alpha",
        "edit_entropy": "actor/edit_entropy",
    },
)


def test_path_and_adjoints():
    check_adjoints(CASE, "qam_edit", inv_temp=3.0)


def test_edits():
    """Of the fine-tuned flow's actions, by the file's normal draws: e = tanh u and log pi(e)."""
    vectors = Vectors("qam_edit")
    agent, noise, observations = vectors.load("qam_edit"), vectors.noise(CASE), vectors.batch().observations
    with jax.default_matmul_precision("highest"):
        chunks = flow_chunks(agent, "actor_fast", observations, noise["edit_x0"])
        heads = bind(agent.edit_network, agent.train.params["edit_actor"], observations)(chunks)
        edits, log_prob = tanh_sample(*heads, noise["edit"])
    assert_close(edits, vectors.arrays["out/edit"], "edits")
    assert_close(log_prob, vectors.arrays["out/edit_log_prob"], "log density")


def test_one_update():
    check_one_update(CASE, "qam_edit")


def test_gradients():
    check_gradients(CASE, "qam_edit")


def test_four_updates():
    check_four_updates(CASE, "qam_edit_steps")
