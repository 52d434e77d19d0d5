"""Environment slots in worker processes, for evaluation. The workers never import JAX.

A worker holds several slots and plays a whole chunk of actions per message, so that a vector step costs one message per
worker and not one per environment and action. Every slot has its list of episodes: an environment that finishes early
goes on to its next one, and none is cut off or counted twice.
"""

import functools
import os
import pathlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from envs import ogbench, simulator
from envs.suite import Domain
from trqam_jax.errors import UserError

gymnasium.logger.min_level = gymnasium.logger.ERROR + 1  # a worker's error is raised here anyway, and shown once


class SlotGroup(gymnasium.Env):
    """The m slots of one worker, as one environment that AsyncVectorEnv can host.

    observation: {observations (m, O), episode (m,), -1 when the slot has played its list, decision (m,)};
    action: chunks (m, H, A).
    """

    def __init__(self, index: int, domain: Domain, tasks: list[int], horizon: int, video: bool):
        self.index, self.domain, self.tasks, self.video = index, domain, tasks, video
        size = len(tasks)
        integers = functools.partial(Box, -(2**31), 2**31 - 1, (size,), np.int32)
        self.observation_space = Dict(
            observations=Box(-np.inf, np.inf, (size, domain.observation_dim), np.float32),
            episode=integers(),
            decision=integers(),
        )
        self.action_space = Box(-1.0, 1.0, (size, horizon, domain.action_dim), np.float32)
        self.envs: list[Any] = []

    def build(self) -> None:
        """Construct the simulators: seconds, so the parent asks for it early and does not wait."""
        if not self.video:
            self.envs = [ogbench.make_env(self.domain, task) for task in self.tasks]
            return
        if "DISPLAY" not in os.environ:
            os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
        try:
            self.envs = [ogbench.make_env(self.domain, task, render_mode="rgb_array") for task in self.tasks]
            ogbench.reset(self.envs[0], 0)
            self.envs[0].render()
        except Exception as error:  # what a missing graphics library raises is anybody's guess
            raise UserError(
                f"--video_episodes: nothing can be rendered here ({type(error).__name__}: {error}); install EGL or "
                "OSMesa and set MUJOCO_GL=egl or osmesa, or leave the videos out"
            ) from error

    def reset(self, *, seed=None, options=None):
        """options["rounds"][index][slot]: the slot's [(episode, seed, path of its film or None), ...]."""
        rounds = options["rounds"][self.index]
        self.queues = [list(reversed(episodes)) for episodes in rounds]
        self.finished: list[tuple[int, int, float, float, int]] = []
        self.state = {key: np.zeros(space.shape, space.dtype) for key, space in self.observation_space.items()}
        self.frames: list[list[np.ndarray]] = [[] for _ in rounds]
        self.films: list[str | None] = [None] * len(rounds)
        self.totals = np.zeros((len(rounds), 2))  # return, length
        # Some mazes draw from numpy's global generator in mid-episode: every slot has its own state of it.
        self.generators: list[Any] = [None] * len(rounds)
        for slot in range(len(rounds)):
            self._next_episode(slot)
        return self._copy(), {}

    def step(self, action):
        for slot, chunk in enumerate(action):
            if self.state["episode"][slot] >= 0:
                self._play(slot, chunk)
        return self._copy(), 0.0, False, False, {}

    def results(self) -> list[tuple[int, int, float, float, int]]:
        """(slot, episode, success, return, length) of the episodes finished since the reset."""
        return self.finished

    def close(self):
        for env in self.envs:
            env.close()

    def _copy(self):
        return {key: value.copy() for key, value in self.state.items()}

    def _next_episode(self, slot: int) -> None:
        if not self.queues[slot]:
            self.state["episode"][slot] = -1
            return
        episode, seed, self.films[slot] = self.queues[slot].pop()
        self.state["observations"][slot] = ogbench.reset(self.envs[slot], seed)
        self.state["episode"][slot], self.state["decision"][slot] = episode, 0
        self.totals[slot] = 0
        self.generators[slot] = np.random.get_state()  # noqa: NPY002
        self._film(slot)

    def _play(self, slot: int, chunk: np.ndarray) -> None:
        np.random.set_state(self.generators[slot])  # noqa: NPY002
        for action in chunk:
            observation, reward, terminated, truncated, info = self.envs[slot].step(action)
            self.totals[slot] += reward, 1
            self._film(slot)
            if terminated or truncated:
                episode = int(self.state["episode"][slot])
                total, length = self.totals[slot]
                self.finished.append((slot, episode, float(info["success"]), total, int(length)))
                self._write_film(slot)
                self._next_episode(slot)
                return
        self.state["observations"][slot] = observation
        self.state["decision"][slot] += 1
        self.generators[slot] = np.random.get_state()  # noqa: NPY002

    def _film(self, slot: int) -> None:
        if self.films[slot]:
            self.frames[slot].append(self.envs[slot].render())

    def _write_film(self, slot: int) -> None:
        if self.films[slot]:
            from PIL import Image

            first, *rest = [Image.fromarray(frame) for frame in self.frames[slot]]
            first.save(self.films[slot], save_all=True, append_images=rest, duration=50, loop=0)
            self.frames[slot] = []


class VectorSlots:
    """R x n slots over worker processes; fulfils `trqam_jax.evaluation.Slots`.

    tasks: the task of each replica. Close it, or use it in a `with` statement.
    """

    def __init__(
        self,
        domain: Domain,
        tasks: list[int],
        horizon: int,
        num_episodes: int,
        *,
        workers: int | None = None,
        video: bool = False,
    ):
        self.num_replicas = len(tasks)
        workers = workers or simulator.cpu_count()
        # About four slots per worker keep it busy while the policy is called; more would only cost construction.
        self.per_replica = max(1, min(num_episodes, round(4 * workers / self.num_replicas)))
        self._size = self.num_replicas * self.per_replica
        self._workers = min(workers, self._size)
        slot_tasks = self._to_workers(np.repeat(tasks, self.per_replica))
        self._envs = AsyncVectorEnv(
            [functools.partial(SlotGroup, w, domain, t.tolist(), horizon, video) for w, t in enumerate(slot_tasks)],
            context="spawn",
            autoreset_mode=AutoresetMode.DISABLED,
        )
        self._envs.call_async("build")
        self._building = True
        if video:
            self._wait()  # to learn early that nothing can be rendered
        self._films: list[list[pathlib.Path]] = [[]] * self.num_replicas

    def _wait(self) -> None:
        if self._building:
            self._building = False
            self._envs.call_wait()

    def _to_workers(self, slots: np.ndarray) -> np.ndarray:
        """(R * n, ...) -> (workers, m, ...): slot s sits in worker s % workers, so that every worker has slots of every
        replica; the last slot is repeated where workers would have unequally many."""
        width = -(-self._size // self._workers)
        padding = np.repeat(slots[-1:], width * self._workers - self._size, axis=0)
        padded = np.concatenate([slots, padding])
        return padded.reshape(width, self._workers, *slots.shape[1:]).swapaxes(0, 1)

    def _from_workers(self, values: np.ndarray) -> np.ndarray:
        """(workers, m, ...) -> (R, n, ...)."""
        flat = values.swapaxes(0, 1).reshape(-1, *values.shape[2:])[: self._size]
        return flat.reshape(self.num_replicas, self.per_replica, *values.shape[2:])

    def film(self, paths: list[list[pathlib.Path]]) -> None:
        """Write the first episodes of the next round as GIFs: replica r's episode e to paths[r][e]."""
        self._films = paths

    def reset(self, seeds: np.ndarray) -> dict[str, np.ndarray]:
        """Start seeds.shape[1] episodes of every replica."""
        self._wait()
        self._num_episodes = seeds.shape[1]
        films = [[*map(str, paths), *[None] * self._num_episodes] for paths in self._films]
        self._films = [[]] * self.num_replicas
        rounds = [[[] for _ in range(-(-self._size // self._workers))] for _ in range(self._workers)]
        for slot in range(self._size):
            replica, first = divmod(slot, self.per_replica)
            rounds[slot % self._workers][slot // self._workers] = [
                (episode, int(seeds[replica, episode]), films[replica][episode])
                for episode in range(first, self._num_episodes, self.per_replica)
            ]
        state, _ = self._envs.reset(options={"rounds": rounds})
        return {key: self._from_workers(value) for key, value in state.items()}

    def step(self, chunks: np.ndarray) -> dict[str, np.ndarray]:
        """chunks: (R, n, H, A)."""
        state = self._envs.step(self._to_workers(chunks.reshape(-1, *chunks.shape[2:])))[0]
        return {key: self._from_workers(value) for key, value in state.items()}

    def results(self) -> dict[str, np.ndarray]:
        """Every episode of the round, (R, E); an error if one is missing or came twice."""
        shape = self.num_replicas, self._num_episodes
        seen = np.zeros(shape, int)
        values = {"success": np.zeros(shape), "return": np.zeros(shape), "length": np.zeros(shape, int)}
        for worker, finished in enumerate(self._envs.call("results")):
            for position, episode, *outcome in finished:
                replica = (position * self._workers + worker) // self.per_replica
                seen[replica, episode] += 1
                for key, value in zip(values, outcome, strict=True):
                    values[key][replica, episode] = value
        if (seen != 1).any():
            raise RuntimeError(f"episodes were played {seen.min()} to {seen.max()} times, expected once each")
        return values

    def close(self) -> None:
        """End the workers."""
        self._envs.close()

    def __enter__(self) -> "VectorSlots":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
