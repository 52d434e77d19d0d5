"""QAM-E against the released implementation's reference vectors."""

from golden_vectors import Case, check_adjoints, check_edits, check_four_updates, check_gradients, check_one_update

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
    check_edits(CASE, "qam_edit", "actor_fast")


def test_one_update():
    check_one_update(CASE, "qam_edit")


def test_gradients():
    check_gradients(CASE, "qam_edit")


def test_four_updates():
    check_four_updates(CASE, "qam_edit_steps")
