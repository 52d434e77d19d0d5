"""Every setting of a run but the agent's own, declared once (agents declare theirs). Imports no JAX.

Flags, --config.SECTION.KEY=VALUE, checks, digests, the printed configuration and docs/settings.md derive from these.
"""

from collections.abc import Mapping

from experiments.training.mirrors import MIRRORS
from trqam_jax.settings import Effect, Setting, Settings

#: Matrix products' modes, as trqam_jax.backend reads them.
PRECISIONS = ("default", "highest", "tensorfloat32", "bfloat16")


#: By section; the section "" is the top level.
SECTIONS: Mapping[str, Settings] = {
    "": {
        "precision": Setting(
            "default",
            "Mode of matrix products on an accelerator; default: the device's own. A CPU computes float32 in all.",
            choices=PRECISIONS,
            digested={"tensorfloat32": "TF32_TF32_F32", "bfloat16": "BF16_BF16_F32"},  # until 0.5.0 they were others
        ),
    },
    "bc": {
        "steps": Setting(300_000, "Updates of behaviour cloning; 0: none.", low=0, flag="bc_steps"),
        "checkpoint": Setting(
            "",
            "Start from this pretrained policy instead of training one: a folder, released (the domain's of the TRQAM "
            "paper) or hub:owner/name, both perhaps with @revision; needs bc.steps=0.",
            effect=Effect.LOCATION,
            flag="bc_checkpoint",
        ),
        "fingerprint": Setting("", "Of the given checkpoint's content; filled in when it is read."),
        "per_seed": Setting(False, "One BC policy per seed, instead of one per domain as released."),
        "seed": Setting(0, "Seed of the one BC policy per domain.", low=0),
    },
    "data": {
        "dataset": Setting(
            "auto",
            "auto (local files, else a download), generate, or the path of a file or a folder of shards.",
            effect=Effect.LOCATION,
            flag="dataset",
        ),
        "dir": Setting(
            "",
            "Where dataset files are kept; by default the suite's own folder.",
            effect=Effect.LOCATION,
            flag="dataset_dir",
        ),
        "download": Setting(
            "auto",
            "Of missing data, with data.dataset=auto; auto: download them; ask: first ask, on a terminal; never.",
            choices=("auto", "ask", "never"),
            effect=Effect.NONE,
            flag="download",
        ),
        "episodes": Setting(
            60,
            "Episodes to generate with data.dataset=generate.",
            low=1,
            effect=Effect.LOCATION,
            flag="dataset_episodes",
        ),
        "seed": Setting(0, "Seed to generate with.", low=0, effect=Effect.LOCATION),
        "shards": Setting(
            0, "How many shards of a sharded release; 0: the domain's plain file.", low=0, effect=Effect.LOCATION
        ),
        "sparse": Setting(False, "Every non-zero reward becomes -1."),
        "scale_observations": Setting(
            False,
            "Observations scaled to [-1, 1] by their range in the data, or as the given BC policy saw them.",
            since="0.3.0",
        ),
        "resident": Setting(
            "auto",
            "true: the data lie on the device; false: they are streamed from the host; auto: as they fit.",
            choices=("auto", "true", "false"),
            effect=Effect.NONE,
        ),
        "shard_cycle": Setting(
            0,
            "Updates from one shard before the next (released code: 1000); 0: minibatches from all rows at once.",
            low=0,
        ),
        "fingerprint": Setting("", "Of the data's content; filled in when they are found."),
    },
    "train": {
        "batch_size": Setting(256, "Windows per minibatch.", low=1),
        "offline_steps": Setting(1_000_000, "Offline updates.", low=0, effect=Effect.LENGTH, flag="offline_steps"),
        "log_interval": Setting(
            5_000,
            "Steps between rows of train.csv: updates, online environment steps.",
            low=1,
            effect=Effect.ROWS,
            flag="log_interval",
        ),
        "save_interval": Setting(
            10_000,
            "Updates between checkpoints; online: online.save_interval.",
            low=1,
            effect=Effect.NONE,
            flag="save_interval",
        ),
        "replicas_per_pass": Setting(
            0,
            "Replicas in one dispatch; 0: one per device on a CPU, elsewhere what memory allows.",
            low=0,
            effect=Effect.NONE,
            flag="replicas_per_pass",
        ),
    },
    "online": {
        "steps": Setting(
            0,
            "Environment steps of the online phase, per replica; 0: no online phase.",
            low=0,
            effect=Effect.LENGTH,
            flag="online_steps",
        ),
        "start_training": Setting(
            5_000, "Transitions that are stored at the first update.", low=1, flag="start_training"
        ),
        "updates_per_step": Setting(1, "Updates per environment step (the UTD ratio).", low=1, flag="updates_per_step"),
        "balanced_sampling": Setting(
            False,
            "Half of every minibatch from online data; uniformly random actions until start_training.",
            flag="balanced_sampling",
        ),
        "save_interval": Setting(
            10_000, "Environment steps between checkpoints; one ends the episodes, so it is part of the result.", low=1
        ),
    },
    "eval": {
        "interval": Setting(50_000, "Updates between evaluations.", low=1, effect=Effect.ROWS, flag="eval_interval"),
        "episodes": Setting(
            50, "Episodes per evaluation and replica; 0: none.", low=0, effect=Effect.ROWS, flag="eval_episodes"
        ),
        "bc": Setting(
            True,
            "Evaluate the BC policy that a run starts from, too.",
            effect=Effect.ROWS,
            flag="eval_bc",
            since="0.6.0",
        ),
        "video_episodes": Setting(
            0,
            "Episodes per evaluation and replica to write as GIFs.",
            low=0,
            effect=Effect.ROWS,
            flag="video_episodes",
        ),
        "episode_limit": Setting(
            None,
            "Environment steps of an episode, evaluated or online; none: the domain's own limit.",
            low=1,
            optional=True,
            type=int,
            flag="episode_limit",
            since="0.3.0",
        ),
        "workers": Setting(0, "Worker processes with simulators; 0: one per core.", low=0, effect=Effect.NONE),
    },
    "run": {
        "out_dir": Setting("runs", "Where runs leave their folders.", effect=Effect.NONE, flag="out_dir"),
        "group": Setting("default", "Folder of the runs that belong together.", effect=Effect.NONE, flag="group"),
        "part": Setting(
            "", "Ends the folder's name, for jobs that split one run's seeds or tasks.", effect=Effect.ROWS
        ),
        "mirrors": Setting(
            (), "Show rows elsewhere, too: tensorboard, wandb.", choices=tuple(MIRRORS), effect=Effect.NONE
        ),
        "resume": Setting(
            "auto",
            "auto: continue an interrupted run; must: fail if there is none; never: start over.",
            choices=("auto", "must", "never"),
            effect=Effect.NONE,
            flag="resume",
        ),
    },
}


def flat(sections: Mapping[str, Settings] = SECTIONS) -> dict[str, Setting]:
    """{"section.key": declaration}."""
    return {
        f"{section}.{key}" if section else key: setting
        for section, settings in sections.items()
        for key, setting in settings.items()
    }
