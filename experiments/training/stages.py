"""The stages of a run: behaviour cloning (BC), and fine-tuning from the policy that it hands on.

A stage has a folder, settings that its digest covers, and phases. The BC stage is shared: all runs that are configured
alike start from the one policy that it leaves in its checkpoints.
"""

import pathlib
from typing import NamedTuple

from ml_collections import ConfigDict

import agents
from experiments.config import changes_results, digest, effect
from experiments.row_format import BC_PREFIX, flatten
from trqam_jax.files import expand
from trqam_jax.settings import Effect


class Stage(NamedTuple):
    """A part of a run with a folder of its own."""

    phases: tuple[str, ...]
    agent: str = ""  # which it trains, whatever a run's configuration names; "": that one
    folder_prefix: str = ""  # what its folder's name begins with; "": the agent, and it ends with the run's part
    shared: bool = False  # waited for while another process makes it, and used as it is once it is finished
    unused: tuple[str, ...] = ()  # settings that change other stages' results alone; "online." is a whole section
    lengths: tuple[str, ...] = ()  # with larger values of these a finished run is continued
    rows: tuple[str, ...] | None = None  # settings that an unfinished run needs again; None: all that change its rows

    def config(self, config: ConfigDict) -> ConfigDict:
        """What the stage is configured by, whatever else a run's configuration holds."""
        if not self.agent:
            return config
        result = config.copy_and_resolve_references().unlock()
        result.agent = agents.bc_config(config.agent)
        result.agent_name = self.agent
        return result.lock()

    def uses(self, key: str) -> bool:
        """Whether the setting of this flat key changes a result of the stage."""
        unused = any(key.startswith(name) if name.endswith(".") else key == name for name in self.unused)
        return changes_results(key) and not unused

    def digest(self, config: ConfigDict) -> str:
        """Over what changes a result of the stage at a given step: not seeds, tasks, totals, intervals or paths."""
        return digest(config, filter(self.uses, flatten(config)))

    def folder(self, config: ConfigDict) -> pathlib.Path:
        """{out_dir}/{group}/{env}/{agent}-{digest}, with -{part} if there is one."""
        root = expand(config.run.out_dir) / config.run.group / config.env
        if self.folder_prefix:
            return root / f"{self.folder_prefix}-{self.digest(config)}"
        return root / "-".join(filter(None, (config.agent_name, self.digest(config), config.run.part)))

    def must_match(self, key: str, config: ConfigDict) -> bool:
        """Whether a run of the stage is only resumed with the same value of this setting."""
        if self.rows is None:
            return effect(key) in (Effect.RESULT, Effect.ROWS)
        return key in self.rows and (key != "run.seeds" or config.bc.per_seed)  # else it has a seed of its own


BC = Stage(
    ("bc",),
    agent="bc",
    folder_prefix=BC_PREFIX,
    shared=True,
    # It uses no reward, and neither how its policy acts nor for how long.
    unused=("online.", "data.sparse", "eval.episode_limit", "protocol", *(f"agent.{key}" for key in agents.BC.UNUSED)),
    rows=("train.log_interval", "run.seeds"),
)
FINE_TUNING = Stage(("offline", "online"), lengths=("train.offline_steps", "online.steps"))
