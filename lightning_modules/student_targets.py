"""What the frames of each data set teach a student: a task's prompts, and the reward that they make of embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.tasks import Prompts
from lightning_modules.rewards import EmbeddingReward


@dataclass(frozen=True, eq=False)
class Target:
    """One reward to learn."""

    task: str
    """name of the task"""
    prompts: Prompts
    reward: EmbeddingReward
    """what the prompts make of the teacher's embeddings; its scales are frozen to the training split once it is read"""


class Targets:
    """The targets of all data sets; data sets of one task and prompts share one."""

    def __init__(self, data: FramesDataModule, own: Mapping[str, Any]) -> None:
        """Find prompts and their embeddings in the manifests; no frame is read.

        Args:
            data: the data sets.
            own: fields of `Prompts` that take the place of each task's own.

        Raises:
            DataError: the labels are missing, or have no embedding of a sentence.
            SettingsError: the prompts contradict each other, or one task has several.
        """
        asked = [(task.name, _with(own, task.prompts)) for task in data.tasks]
        different = list(dict.fromkeys(asked))
        self.of_set = np.array([different.index(one) for one in asked])
        """number of each data set's target (S,)"""
        names = [task for task, _ in different]
        for task in names:
            if names.count(task) > 1:
                raise SettingsError(
                    f"data.labels holds several data sets of task {task!r} with different prompts: a student learns "
                    "one reward of a task; say which with model.goal, model.baseline and model.alpha"
                )
        self.all: list[Target] = []
        for number, (task, prompts) in enumerate(different):
            first_set = int(np.argmax(self.of_set == number))
            goal, baseline = (data.prompt_embeddings(each, first_set) for each in (prompts.goal, prompts.baseline))
            reward = EmbeddingReward(goal, baseline, prompts.alpha, data.sets[0].teacher.dims)
            self.all.append(Target(task, prompts, reward))

    def freeze(self, train: Sequence[NDArray[np.float32]]) -> None:
        """Freeze the scale of each reward to the training frames' embeddings (N, D), one array a data set."""
        self.all = [
            replace(target, reward=target.reward.frozen_to(self.embeddings_of(number, train)))
            for number, target in enumerate(self.all)
        ]

    def embeddings_of(self, number: int, train: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The embeddings (N, D) of one target's frames, from one array a data set."""
        return np.concatenate([own for target, own in zip(self.of_set, train, strict=True) if target == number])

    def of_each_set(self, train: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Standardised rewards (N,) of each data set's embeddings (N, D)."""
        return [
            self.all[number].reward.standardised(embeddings)
            for number, embeddings in zip(self.of_set.tolist(), train, strict=True)
        ]

    def rewards(self, embeddings: NDArray[np.float32], data_set: NDArray[np.int64]) -> NDArray[np.float32]:
        """Standardised reward (B, ...) of embeddings (B, ..., D), each frame's by its own data set's target (B,)."""
        rewards = np.empty(embeddings.shape[:-1], np.float32)
        of_frame = self.of_set[data_set]
        for number in np.unique(of_frame):
            mine = of_frame == number
            own = embeddings[mine]
            rewards[mine] = self.all[number].reward.standardised(own.reshape(-1, own.shape[-1])).reshape(own.shape[:-1])
        return rewards


def _with(own: Mapping[str, Any], prompts: Prompts) -> Prompts:
    changed = Prompts(**{**asdict(prompts), **own})
    return Prompts(tuple(changed.goal), tuple(changed.baseline), changed.alpha)
