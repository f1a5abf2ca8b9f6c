"""Fits a student to its teacher: the network, its loss and its optimiser, as Lightning trains them."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from datamodules.batches import FrameBatch
from datamodules.errors import DataError, SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.pixels import random_shift, to_model_input
from datamodules.records import sample_key
from lightning_modules.left_out import left_out_episodes
from lightning_modules.losses import LOSSES, HeadName, LossName, ranking
from lightning_modules.student_network import RANDOM, EmbeddingHead, StudentNetwork, check_backbone, check_weights
from lightning_modules.student_scores import Scores, episode_numbers
from lightning_modules.student_targets import Targets

MONITOR = "student/validation_loss"
"""the metric that stops the fit and picks its best checkpoint; smaller is better"""


class StudentModule(LightningModule):
    """A student network learning from stored teacher embeddings: their reward by the prompts, or themselves."""

    network: StudentNetwork
    targets: Targets

    def __init__(
        self,
        backbone: str,
        *,
        head: HeadName = "reward",
        head_width: int = 256,
        members: int = 1,
        shared_backbone: bool = False,
        weights: str = RANDOM,
        frozen: bool = False,
        gradient_checkpointing: bool = False,
        loss: LossName | None = None,
        ranking_weight: float = 0.0,
        shift_pixels: int = 0,
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
            head: reward learns the reward of the prompts alone; embedding learns the teacher's embedding, and with it
                the reward of every prompt, baseline and alpha, chosen when the student is used.
            head_width: hidden units of the head (at least 1).
            members: how many students learn as one, an ensemble whose spread says how sure it is (1 to 32). Each is
                fitted without a fifth of the training episodes, another one for each.
            shared_backbone: the members of an ensemble share a backbone: cheaper, and more alike.
            weights: where the backbone starts: random, imagenet (timm's own weights) or the path of a timm checkpoint.
            frozen: leave the backbone as it starts and fit the head alone.
            gradient_checkpointing: compute activations twice instead of keeping them, for GPUs that are too small.
            loss: huber, which keeps rare extreme frames from ruling the fit, or mse; of an embedding head cosine. The
                first one that the head can have unless given.
            ranking_weight: weight of RankNet's loss over the pairs of a batch, beside `loss` (0 or more; 0: without);
                of a reward head.
            shift_pixels: training frames are moved by up to so many pixels, another way each time (0 or more): students
                of few frames generalise better.
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
        if not 1 <= members <= 32:
            raise SettingsError(f"model.members is {members}: it must lie between 1 and 32")
        if ranking_weight < 0 or (ranking_weight and head != "reward"):
            raise SettingsError(
                f"model.ranking_weight is {ranking_weight} and model.head is {head!r}: it must be 0 or more, and 0 "
                "where the head is not 'reward'"
            )
        if shift_pixels < 0:
            raise SettingsError(f"model.shift_pixels is {shift_pixels}: it must be 0 or more")
        losses = LOSSES[head]
        if loss is not None and loss not in losses:
            raise SettingsError(f"model.loss is {loss!r}: with model.head {head!r} it must be {' or '.join(losses)}")
        if frozen and weights == RANDOM:
            raise SettingsError(
                "model.frozen is true and model.weights is 'random': a frozen backbone would keep its random weights; "
                "set weights to 'imagenet' or a checkpoint"
            )
        self.backbone, self.head, self.head_width, self.weights = backbone, head, head_width, weights
        self.members, self.shared_backbone = members, shared_backbone
        self.frozen, self.gradient_checkpointing = frozen, gradient_checkpointing
        self.loss, self.ranking_weight = losses[loss] if loss else next(iter(losses.values())), ranking_weight
        self.learning_rate, self.weight_decay, self.schedule = learning_rate, weight_decay, schedule
        self.shift_pixels = shift_pixels
        self._own = {
            name: value
            for name, value in (("goal", goal), ("baseline", baseline), ("alpha", alpha))
            if value is not None
        }
        self._unit = 1.0
        self._left_out: list[NDArray[np.int64]] = []
        self._scores: list[Scores] = []
        self.held_out: Scores | None = None

    def build(self, data: FramesDataModule) -> None:
        """Everything that the manifests alone decide: prompts, their embeddings and the network. No frame is read.

        Raises:
            DataError: the labels are missing, or have no embedding of a sentence.
            SettingsError: the backbone cannot take frames of this size, or the prompts contradict each other.
        """
        self.targets = Targets(data, self._own)
        if not hasattr(self, "network"):
            network = self.new_network(data.task.render.frame_pixels, data.sets[0].teacher.dims)
            for backbone in network.backbones:
                backbone.requires_grad_(not self.frozen).train(not self.frozen)
                if self.gradient_checkpointing:
                    _checkpoint_gradients(backbone, self.backbone)
            self.network = network.to(memory_format=torch.channels_last)  # up to twice as fast on CPUs

    def new_network(self, pixels: int, dims: tuple[int, ...]) -> StudentNetwork:
        """The network for frames of this side and a teacher whose CLIPs have embeddings of these lengths."""
        return StudentNetwork(
            self.backbone,
            pixels,
            self.head_width,
            self.weights,
            dims=dims if self.head == "embedding" else (),
            members=self.members,
            shared_backbone=self.shared_backbone,
        )

    def setup(self, stage: str) -> None:
        """Build; freeze each reward's scale, and the embedding head's, to the training split; leave out episodes."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning attaches it without declaring it
        self.build(data)
        train = [data.train_embeddings(number) for number in range(len(data.sets))]
        self.targets.freeze(train)
        data.stratify(self.targets.of_each_set(train))
        if self.members > 1:
            self._left_out = left_out_episodes(data, self.members)
        if self.head == "embedding":
            embeddings = np.concatenate(train)
            self._unit = float(0.5 * embeddings.var(axis=0).sum()) or 1.0  # where all frames look alike
            for head in self.network.heads:
                assert isinstance(head, EmbeddingHead)
                head.centre(torch.from_numpy(embeddings).to(self.device))

    def forward(self, frames: Tensor) -> Tensor:
        """Frames uint8 (B, P, P, 3) -> what the network says, float32 (B, K) or (B, K, D)."""
        outputs: Tensor = self.network(to_model_input(frames))
        return outputs.float()  # under autocast they are bfloat16

    def training_step(self, batch: FrameBatch, batch_idx: int) -> Tensor:
        """Loss of a batch. Raises DataError, naming its frames, where it is not finite."""
        loss = self.loss_of(batch._replace(frames=random_shift(batch.frames, self.shift_pixels)))
        self.log("student/train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch.frames))
        return loss

    def loss_of(self, batch: FrameBatch) -> Tensor:
        """Mean loss over frames and members, those that a member does without left out; the ranking loss on top.

        Of a student that always guesses the mean mse and cosine are about 1, whatever the embeddings' spread.
        """
        outputs, answers = self(batch.frames), self._answers(batch)
        losses = self._losses(outputs, answers)
        kept = self._kept(batch)
        loss = losses.mean() if kept is None else (losses * kept).sum() / kept.sum().clamp(min=1)
        if self.ranking_weight:
            seen = torch.ones_like(losses) if kept is None else kept
            ranked = [ranking(own[mine], answers[mine]) for own, mine in zip(outputs.T, seen.T.bool(), strict=True)]
            loss = loss + self.ranking_weight * torch.stack(ranked).mean()
        if not torch.isfinite(loss):
            raise DataError(self._not_finite(batch, losses, answers))
        return loss

    def score(self, batches: Iterable[FrameBatch]) -> Scores:
        """What the network in eval mode says of labelled frames, in this process."""
        self.eval()
        with torch.inference_mode():
            return Scores.together([self._scores_of(batch) for batch in batches])

    def train(self, mode: bool = True) -> Self:
        """A frozen backbone keeps the statistics of its normalisation as well."""
        super().train(mode)
        if self.frozen and hasattr(self, "network"):
            self.network.backbones.eval()
        return self

    def validation_step(self, batch: FrameBatch, batch_idx: int) -> None:
        """Keep the batch's scores until the epoch's end, because rank correlation needs all of them."""
        self._scores.append(self._scores_of(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and the fidelity to the teacher."""
        scores = self._gathered()
        fidelity = scores.fidelity()
        # the same in every process; a number, because NCCL reduces no tensor of the CPU
        self.log(MONITOR, float(scores.loss.mean()), sync_dist=True)
        for name in ("mse", "pearson", "spearman_pooled", "spearman_within_episode"):
            self.log(f"student/validation_{name}", getattr(fidelity, name), sync_dist=True)

    def test_step(self, batch: FrameBatch, batch_idx: int) -> None:
        """As in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Keep the held-out scores for the export and log their fidelity."""
        self.held_out = self._gathered()
        fidelity = self.held_out.fidelity()
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

    def _answers(self, batch: FrameBatch) -> Tensor:
        """What the head should say: each frame's reward by its own target (B,), or its embedding (B, D)."""
        return batch.embeddings if self.head == "embedding" else self._rewards(batch.embeddings, batch)

    def _losses(self, outputs: Tensor, answers: Tensor) -> Tensor:
        """Loss of each frame and member (B, K), in units of what guessing the mean costs an embedding head."""
        return self.loss(outputs, answers.unsqueeze(1)) / self._unit

    def _kept(self, batch: FrameBatch) -> Tensor | None:
        """Which members learn from each frame, 0 or 1, float32 (B, K); None where all do."""
        if not self._left_out:
            return None
        episodes = episode_numbers(batch).cpu().numpy()
        kept = np.stack([~np.isin(episodes, left_out) for left_out in self._left_out], axis=1)
        return torch.from_numpy(kept.astype(np.float32)).to(self.device)

    def _scores_of(self, batch: FrameBatch) -> Scores:
        batch = FrameBatch._make(column.to(self.device) for column in batch)
        outputs = self(batch.frames)
        members = self._rewards(outputs, batch) if self.head == "embedding" else outputs
        losses = self._losses(outputs, self._answers(batch))
        return Scores.of(batch, members, self._rewards(batch.embeddings, batch), losses)

    def _rewards(self, embeddings: Tensor, batch: FrameBatch) -> Tensor:
        """Standardised rewards (B, ...) of embeddings (B, ..., D) by each frame's own target."""
        rewards = self.targets.rewards(embeddings.detach().cpu().numpy(), batch.data_set.cpu().numpy())
        return torch.from_numpy(rewards).to(batch.frames.device)

    def _gathered(self) -> Scores:
        """The scores of all processes, by episode and step."""
        scores = Scores.together(self._scores, self.trainer.world_size)
        self._scores.clear()
        if not torch.isfinite(scores.student).all():
            raise DataError(
                f"the fit diverged: student rewards are not finite; lower model.learning_rate ({self.learning_rate})"
            )
        return scores

    def _not_finite(self, batch: FrameBatch, losses: Tensor, answers: Tensor) -> str:
        good = torch.isfinite(answers)
        good = good if good.ndim == 1 else good.all(dim=1)
        bad = ~(torch.isfinite(losses).all(dim=1) & good)
        keys = [sample_key(*pair) for pair in zip(batch.episode[bad].tolist(), batch.step[bad].tolist(), strict=True)]
        shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        cause = (
            f"the fit diverged: lower model.learning_rate ({self.learning_rate})"
            if good.all()
            else "their labels are damaged: label them again"
        )
        return f"the loss is not finite in epoch {self.current_epoch}, on frames {shown}; {cause}. The checkpoints stay"


def _checkpoint_gradients(backbone: Any, name: str) -> None:
    try:
        backbone.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:  # timm asserts in the models that cannot
        raise SettingsError(f"backbone {name!r} has no gradient checkpointing: set it to false") from error
