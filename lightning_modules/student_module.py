"""Fits a student to its teacher: the network, its loss and its optimiser, as Lightning trains them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from datamodules.batches import FrameBatch
from datamodules.errors import DataError, SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.pixels import to_model_input
from datamodules.records import sample_key
from datamodules.tasks import Prompts
from lightning_modules.fidelity import measure_fidelity
from lightning_modules.losses import LOSSES, LossName, ranking
from lightning_modules.rewards import EmbeddingReward, Standardisation
from lightning_modules.student_network import RANDOM, StudentNetwork, check_backbone, check_weights

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

    def __init__(
        self,
        backbone: str,
        *,
        head_width: int = 256,
        weights: str = RANDOM,
        frozen: bool = False,
        gradient_checkpointing: bool = False,
        loss: LossName = "huber",
        ranking_weight: float = 0.0,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        schedule: Literal["one_cycle", "constant"] = "one_cycle",
        goal: list[str] | None = None,
        baseline: list[str] | None = None,
        alpha: float | None = None,
    ) -> None:
        """Check the settings; the network is built when the frames' size is known (`build`).

        Args:
            backbone: a timm model name, as 'mobilenetv3_small_050'.
            head_width: hidden units of the reward head (at least 1).
            weights: where the backbone starts: random, imagenet (timm's own weights) or the path of a timm checkpoint.
            frozen: leave the backbone as it starts and fit the head alone.
            gradient_checkpointing: compute activations twice instead of keeping them, for GPUs that are too small.
            loss: mse, or huber, which keeps rare extreme frames from ruling the fit.
            ranking_weight: weight of RankNet's loss over the pairs of a batch, beside `loss` (0 or more; 0: without).
            learning_rate: the highest rate of the schedule (above 0).
            weight_decay: AdamW's decoupled decay (0 or more; at 0 it is plain Adam).
            schedule: constant, or one_cycle: rise for a fifth of the steps, fall as a cosine (Smith and Topin 2019).
            goal: goal sentences; the labels' task says them unless given.
            baseline: baseline sentences; the labels' task says them unless given.
            alpha: strength of the goal-baseline projection (0 to 1); the labels' task says it unless given.

        Raises:
            UnknownNameError: timm has no such backbone.
            SettingsError: a value outside its range.
            MissingDependencyError: there is no such checkpoint.
        """
        super().__init__()
        check_backbone(backbone)
        check_weights(weights)
        if learning_rate <= 0 or weight_decay < 0:
            raise SettingsError(
                f"model.learning_rate is {learning_rate} and model.weight_decay is {weight_decay}: "
                "the rate must be above 0, the decay 0 or more"
            )
        if ranking_weight < 0:
            raise SettingsError(f"model.ranking_weight is {ranking_weight}: it must be 0 or more")
        if frozen and weights == RANDOM:
            raise SettingsError(
                "model.frozen is true and model.weights is 'random': a frozen backbone would keep its random weights; "
                "set weights to 'imagenet' or a checkpoint"
            )
        self.backbone, self.head_width, self.weights = backbone, head_width, weights
        self.frozen, self.gradient_checkpointing = frozen, gradient_checkpointing
        self.loss, self.ranking_weight = LOSSES[loss], ranking_weight
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
        self.rewards: list[EmbeddingReward] = []
        for number, target in enumerate(self.targets):
            texts = (target.prompts.goal, target.prompts.baseline)
            goal, baseline = (data.prompt_embeddings(sentences, number) for sentences in texts)
            self.rewards.append(EmbeddingReward(goal, baseline, target.prompts.alpha, data.sets[0].teacher.dims))
        if not hasattr(self, "network"):
            network = StudentNetwork(self.backbone, data.task.render.frame_pixels, self.head_width, self.weights)
            network.backbone.requires_grad_(not self.frozen).train(not self.frozen)
            if self.gradient_checkpointing:
                _checkpoint_gradients(network.backbone, self.backbone)
            self.network = network.to(memory_format=torch.channels_last)  # up to twice as fast on CPUs

    def setup(self, stage: str) -> None:
        """Build, and freeze the scale of each target's reward to the training split."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning attaches it without declaring it
        self.build(data)
        train = [data.train_embeddings(number) for number in range(len(self.targets))]
        scales = {
            target: reward.frozen_to(np.concatenate([train[other] for other in self._alike(target)])).scales
            for target, reward in zip(self.targets, self.rewards, strict=True)
        }
        self.rewards = [
            replace(reward, scales=scales[target]) for target, reward in zip(self.targets, self.rewards, strict=True)
        ]
        data.stratify([reward.standardised(own) for reward, own in zip(self.rewards, train, strict=True)])

    def _alike(self, target: Target) -> list[int]:
        """Numbers of the data sets that teach a target."""
        return [number for number, other in enumerate(self.targets) if other == target]

    @property
    def reward(self) -> EmbeddingReward:
        """What the first data set's frames teach."""
        return self.rewards[0]

    @property
    def standardisation(self) -> Standardisation:
        """The frozen scale of `reward`."""
        return self.reward.standardisation

    def forward(self, frames: Tensor) -> Tensor:
        """Frames uint8 (B, P, P, 3) -> standardised rewards float32 (B,)."""
        rewards: Tensor = self.network(to_model_input(frames))
        return rewards.float()  # under autocast they are bfloat16

    def training_step(self, batch: FrameBatch, batch_idx: int) -> Tensor:
        """Loss of a batch. Raises DataError, naming its frames, where it is not finite."""
        loss = self.loss_of(batch)
        self.log("student/train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch.frames))
        return loss

    def loss_of(self, batch: FrameBatch) -> Tensor:
        """`loss` of the rewards and, where it has a weight, the ranking loss of their pairs, a scalar."""
        student, teacher = self(batch.frames), self._rewards(batch)
        loss = self.loss(student, teacher)
        if self.ranking_weight:
            loss = loss + self.ranking_weight * ranking(student, teacher)
        if not torch.isfinite(loss):
            raise DataError(self._not_finite(batch, student, teacher))
        return loss

    def train(self, mode: bool = True) -> Self:
        """A frozen backbone keeps the statistics of its normalisation as well."""
        super().train(mode)
        if self.frozen and hasattr(self, "network"):
            self.network.backbone.eval()
        return self

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

    def _not_finite(self, batch: FrameBatch, student: Tensor, teacher: Tensor) -> str:
        bad = ~(torch.isfinite(student) & torch.isfinite(teacher))
        keys = [sample_key(*pair) for pair in zip(batch.episode[bad].tolist(), batch.step[bad].tolist(), strict=True)]
        shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        cause = (
            f"the fit diverged: lower model.learning_rate ({self.learning_rate})"
            if torch.isfinite(teacher).all()
            else "their labels are damaged: label them again"
        )
        return f"the loss is not finite in epoch {self.current_epoch}, on frames {shown}; {cause}. The checkpoints stay"

    def _rewards(self, batch: FrameBatch) -> Tensor:
        """Each frame's reward by its own data set's prompts, on the scale of its own target; float32 (B,)."""
        embeddings, data_set = batch.embeddings.cpu().numpy(), batch.data_set.cpu().numpy()
        rewards = np.empty(len(embeddings), np.float32)
        for number in np.unique(data_set):
            mine = data_set == number
            rewards[mine] = self.rewards[number].standardised(embeddings[mine])
        return torch.from_numpy(rewards).to(batch.frames.device)

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


def _checkpoint_gradients(backbone: Any, name: str) -> None:
    try:
        backbone.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:  # timm asserts in the models that cannot
        raise SettingsError(f"backbone {name!r} has no gradient checkpointing: set it to false") from error


def episode_numbers(batch: FrameBatch) -> Tensor:
    """Episode of each frame, int64 (B,), told apart over all data sets."""
    return batch.episode + EPISODES * batch.data_set


def _with(own: Mapping[str, Any], prompts: Prompts) -> Prompts:
    changed = Prompts(**{**asdict(prompts), **own})
    return Prompts(tuple(changed.goal), tuple(changed.baseline), changed.alpha)
