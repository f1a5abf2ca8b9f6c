"""Fits a student to its teacher: the network, its loss and its optimiser, as Lightning trains them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from datamodules.batches import FrameBatch
from datamodules.errors import DataError, SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.pixels import to_model_input
from datamodules.tasks import Prompts
from lightning_modules.fidelity import measure_fidelity
from lightning_modules.losses import LOSSES, LossName
from lightning_modules.rewards import Standardisation, goal_baseline_reward
from lightning_modules.student_network import StudentNetwork, check_backbone

MONITOR = "student/validation_loss"
"""the metric that stops the fit and picks its best checkpoint; smaller is better"""


EPISODES = 10**6
"""episode numbers of a data set lie below (`records.sample_key`)"""


class Target(NamedTuple):
    """The reward that the frames of a data set teach; data sets of one task and its prompts share one."""

    task: str
    """name of the task"""
    prompts: Prompts


class Scores(NamedTuple):
    """Frames as student and teacher judge them."""

    student: Tensor
    """float32 (N,) standardised"""
    teacher: Tensor
    """float32 (N,) standardised"""
    episode: Tensor
    """int64 (N,); those of the first data set keep their numbers, those of others come behind"""
    step: Tensor
    """int64 (N,)"""
    true_reward: Tensor
    """float32 (N,)"""


class StudentModule(LightningModule):
    """A student network learning the standardised goal-baseline reward of stored teacher embeddings."""

    network: StudentNetwork
    prompts: Prompts
    standardisation: Standardisation

    def __init__(
        self,
        backbone: str,
        *,
        head_width: int = 256,
        patch_size: int | None = None,
        loss: LossName = "huber",
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        schedule: Literal["one_cycle", "constant"] = "one_cycle",
        goal: list[str] | None = None,
        baseline: list[str] | None = None,
        alpha: float | None = None,
    ) -> None:
        """Check the settings; the network is built when the frames' size is known (`build`).

        Args:
            backbone: a timm model name, as 'mobilenetv3_small_050'; always from random weights.
            head_width: hidden units of the reward head (at least 1).
            patch_size: side of a vision transformer's patch in pixels, where its own does not divide the frame.
            loss: mse, or huber, which keeps rare extreme frames from ruling the fit.
            learning_rate: the highest rate of the schedule (above 0).
            weight_decay: AdamW's decoupled decay (0 or more; at 0 it is plain Adam).
            schedule: constant, or one_cycle: rise for a fifth of the steps, fall as a cosine (Smith and Topin 2019).
            goal: goal sentences; the labels' task says them unless given.
            baseline: baseline sentences; the labels' task says them unless given.
            alpha: strength of the goal-baseline projection (0 to 1); the labels' task says it unless given.

        Raises:
            UnknownNameError: timm has no such backbone.
            SettingsError: a value outside its range.
        """
        super().__init__()
        check_backbone(backbone)
        if learning_rate <= 0 or weight_decay < 0:
            raise SettingsError(
                f"model.learning_rate is {learning_rate} and model.weight_decay is {weight_decay}: "
                "the rate must be above 0, the decay 0 or more"
            )
        self.backbone, self.head_width, self.patch_size = backbone, head_width, patch_size
        self.loss = LOSSES[loss]
        self.learning_rate, self.weight_decay, self.schedule = learning_rate, weight_decay, schedule
        self._asked = {"goal": goal, "baseline": baseline, "alpha": alpha}
        self._scores: list[Scores] = []
        self.held_out: Scores | None = None

    def build(self, data: FramesDataModule) -> None:
        """Everything that the manifests alone decide: prompts, their embeddings and the network. No frame is read.

        Raises:
            DataError: the labels are missing, or have no embedding of a sentence.
            SettingsError: the backbone cannot take frames of this size, or the prompts contradict each other.
        """
        own = {name: value for name, value in self._asked.items() if value is not None}
        self.targets = [Target(task.name, _with(own, task.prompts)) for task in data.tasks]
        self.prompts = self.targets[0].prompts
        self._texts = []
        for number, target in enumerate(self.targets):
            goal = data.prompt_embeddings(target.prompts.goal, number)
            baseline = data.prompt_embeddings(target.prompts.baseline, number)
            self._texts.append((goal, baseline))
        if not hasattr(self, "network"):
            network = StudentNetwork(self.backbone, data.task.render.frame_pixels, self.head_width, self.patch_size)
            self.network = network.to(memory_format=torch.channels_last)  # up to twice as fast on CPUs

    def setup(self, stage: str) -> None:
        """Build, and freeze the standardisation of each target to the training split's rewards."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning attaches it without declaring it
        self.build(data)
        raw: dict[Target, list[Any]] = {}
        for number, target in enumerate(self.targets):
            raw.setdefault(target, []).append(self._raw_rewards(data.train_embeddings(number), number))
        scales = {target: Standardisation.fit(np.concatenate(parts)) for target, parts in raw.items()}
        self.standardisations = [scales[target] for target in self.targets]
        self.standardisation = self.standardisations[0]

    def forward(self, frames: Tensor) -> Tensor:
        """Frames uint8 (B, P, P, 3) -> standardised rewards float32 (B,)."""
        rewards: Tensor = self.network(to_model_input(frames))
        return rewards

    def training_step(self, batch: FrameBatch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = self.loss(self(batch.frames), self._rewards(batch))
        self.log("student/train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch.frames))
        return loss

    def validation_step(self, batch: FrameBatch, batch_idx: int) -> None:
        """Keep the batch's scores until the epoch's end, because rank correlation needs all of them."""
        scores = Scores(self(batch.frames), self._rewards(batch), episode_numbers(batch), batch.step, batch.true_reward)
        self._scores.append(Scores(*(values.cpu() for values in scores)))

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and the fidelity to the teacher."""
        scores = self._gathered()
        fidelity = measure_fidelity(scores.student, scores.teacher, scores.episode)
        self.log(MONITOR, self.loss(scores.student, scores.teacher), sync_dist=True)  # the same in every process
        for name in ("pearson", "spearman_pooled", "spearman_within_episode"):
            self.log(f"student/validation_{name}", getattr(fidelity, name), sync_dist=True)

    def test_step(self, batch: FrameBatch, batch_idx: int) -> None:
        """As in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Keep the held-out scores for the export and log their fidelity."""
        self.held_out = self._gathered()
        fidelity = measure_fidelity(self.held_out.student, self.held_out.teacher, self.held_out.episode)
        for name, value in asdict(fidelity).items():
            self.log(f"student/{name}", float(value), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW (Loshchilov and Hutter 2019), with the learning rate moving at every step where it moves."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps, pct_start=0.2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def _rewards(self, batch: FrameBatch) -> Tensor:
        """Each frame's reward by its own data set's prompts, on the scale of its own target; float32 (B,)."""
        embeddings, data_set = batch.embeddings.cpu().numpy(), batch.data_set.cpu().numpy()
        rewards = np.empty(len(embeddings), np.float32)
        for number in np.unique(data_set):
            mine = data_set == number
            raw = self._raw_rewards(embeddings[mine], number)
            rewards[mine] = self.standardisations[number].apply(raw)
        return torch.from_numpy(rewards).to(batch.frames.device)

    def _raw_rewards(self, embeddings: Any, data_set: int) -> Any:
        return goal_baseline_reward(embeddings, *self._texts[data_set], self.targets[data_set].prompts.alpha)

    def _gathered(self) -> Scores:
        """The scores of all processes, by episode and step."""
        columns: Sequence[Tensor] = [torch.cat(column) for column in zip(*self._scores, strict=True)]
        if self.trainer.world_size > 1:
            everyones: list[Sequence[Tensor]] = [()] * self.trainer.world_size
            torch.distributed.all_gather_object(everyones, columns)  # processes may hold one sample more or less
            columns = [torch.cat(column) for column in zip(*everyones, strict=True)]
        self._scores.clear()
        scores = Scores(*columns)
        scores = Scores._make(column[np.lexsort((scores.step, scores.episode))] for column in scores)
        if not torch.isfinite(scores.student).all():
            raise DataError(
                f"the fit diverged: student rewards are not finite; lower model.learning_rate ({self.learning_rate})"
            )
        return scores


def episode_numbers(batch: FrameBatch) -> Tensor:
    """Episode of each frame, int64 (B,), told apart over all data sets."""
    return batch.episode + EPISODES * batch.data_set


def _with(own: Mapping[str, Any], prompts: Prompts) -> Prompts:
    changed = Prompts(**{**asdict(prompts), **own})
    return Prompts(tuple(changed.goal), tuple(changed.baseline), changed.alpha)
