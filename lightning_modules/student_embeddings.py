"""What an embedding head needs beside its weights to score any prompt: `embeddings.safetensors` in its folder.

The teacher's text embeddings of the sentences known so far, and a sample of its image embeddings, on which the reward
of any prompt, baseline and alpha is standardised.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from datamodules.errors import DataError
from datamodules.results import write_atomically
from datamodules.tasks import Prompts
from lightning_modules.rewards import EmbeddingReward

EMBEDDINGS = "embeddings.safetensors"
REMEDY = "fit the student again with `python -m scripts.fit_student fit`"
SAMPLE = 2048
"""image embeddings kept of each task: the mean and deviation of their reward are within a few percent of all frames'"""
SENTENCE_KEY, SAMPLE_KEY = "sentence/", "sample/"


@dataclass(frozen=True, eq=False)
class StudentEmbeddings:
    """The file's content."""

    sentences: Mapping[str, NDArray[np.float32]]
    """the teacher's text embedding (D,) of each known sentence, each CLIP's part unit-norm"""
    samples: Mapping[str, NDArray[np.float16]]
    """of each task, the teacher's image embeddings (N, D) of training frames, evenly spread"""

    def reward(self, prompts: Prompts, task: str, dims: tuple[int, ...]) -> EmbeddingReward:
        """The reward of these prompts, standardised on the task's sample; `dims` are the CLIPs' embedding lengths.

        Raises DataError, naming them, for sentences that are not known.
        """
        missing = self.missing((*prompts.goal, *prompts.baseline))
        if missing:
            raise DataError(
                f"the student does not know the teacher's embedding of {', '.join(map(repr, missing))}: give the "
                "teacher as well, to have it embedded (no frame is scored), or choose among the sentences it knows: "
                + ", ".join(map(repr, list(self.sentences)[:20]))
            )
        dim = sum(dims)
        goal, baseline = (
            np.array([self.sentences[each] for each in sentences], np.float32).reshape(-1, dim)
            for sentences in (prompts.goal, prompts.baseline)
        )
        return EmbeddingReward(goal, baseline, prompts.alpha, dims).frozen_to(self.samples[task])

    def missing(self, sentences: Sequence[str]) -> list[str]:
        """Those of the sentences that are not known, each once."""
        return [sentence for sentence in dict.fromkeys(sentences) if sentence not in self.sentences]

    def with_sentences(
        self, sentences: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.float32]]
    ) -> "StudentEmbeddings":
        """With these sentences, too; `embed` gives the text embeddings (N, D) of those that are missing, if any."""
        missing = self.missing(sentences)
        if not missing:
            return self
        return replace(self, sentences={**self.sentences, **dict(zip(missing, embed(missing), strict=True))})

    def write(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {SENTENCE_KEY + key: value for key, value in self.sentences.items()}
        tensors |= {SAMPLE_KEY + key: value for key, value in self.samples.items()}
        write_atomically(folder / EMBEDDINGS, save({name: np.ascontiguousarray(own) for name, own in tensors.items()}))

    @classmethod
    def read(cls, folder: Path, tasks: Sequence[str], dim: int) -> Self:
        """Read the file of a student of these tasks and embeddings (dim,). Raises DataError where it is not that."""
        path = folder / EMBEDDINGS
        try:
            tensors = load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path} is missing or damaged ({error}): {REMEDY}") from error
        sentences, samples = (
            {name.removeprefix(key): own for name, own in tensors.items() if name.startswith(key)}
            for key in (SENTENCE_KEY, SAMPLE_KEY)
        )
        wrong = [name for name, own in sentences.items() if own.shape != (dim,) or not np.isfinite(own).all()]
        wrong += [
            task
            for task in tasks
            if task not in samples or samples[task].shape[1:] != (dim,) or not np.isfinite(samples[task]).all()
        ]
        if wrong:
            raise DataError(
                f"{path} does not fit its student in {', '.join(map(repr, wrong[:5]))} (embeddings have length {dim}): "
                + REMEDY
            )
        return cls(sentences, samples)


def evenly(embeddings: NDArray[np.floating[Any]], most: int = SAMPLE) -> NDArray[np.float16]:
    """At most `most` of the embeddings (N, D), spread evenly over them."""
    chosen = np.linspace(0, len(embeddings) - 1, min(most, len(embeddings))).round().astype(np.int64)
    return embeddings[chosen].astype(np.float16)
