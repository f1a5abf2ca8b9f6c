"""The part of open_clip's vocabulary that the bundled teacher is trained on."""

from collections.abc import Mapping, Sequence

import numpy as np
import open_clip
import torch
from torch import Tensor

from lightning_modules.sentences import Sentences

UNKNOWN = 0  # open_clip pads with this token; its embedding stays zero, and dropped words are replaced by it


class Vocabulary:
    """The tokens that occur in training; the others keep a zero embedding, so that unseen words are neutral."""

    DROP = 0.1  # share of words read as unknown, so that sentences with unseen words keep their sense

    def __init__(self, sentences: Sentences) -> None:
        self._tokenizer = open_clip.get_tokenizer("")
        texts = [caption.text for caption in sentences.captions] + list(sentences.openers)
        self._encoded: dict[str, list[int]] = {}
        used = {UNKNOWN, self._tokenizer.sot_token_id, self._tokenizer.eot_token_id}
        for text in texts:
            used.update(self._tokenizer.encode(text))
        # Sorted, the end of text stays the highest, which is what CLIP's pooling looks for.
        self.tokens = np.array(sorted(used))
        longest = max(len(self._tokenizer.encode(text)) for text in texts[: len(sentences.captions)])
        self.longest = 2 + longest + max(len(self._tokenizer.encode(opener)) for opener in sentences.openers)

    def encode(self, texts: Sequence[str], generator: np.random.Generator) -> Tensor:
        """Places in the training vocabulary, int64 (N, longest), with some words dropped."""
        rows = np.full((len(texts), self.longest), UNKNOWN)
        for row, text in zip(rows, texts, strict=True):
            if text not in self._encoded:
                self._encoded[text] = self._tokenizer.encode(text)
            words = np.searchsorted(self.tokens, self._encoded[text])
            words[generator.random(len(words)) < self.DROP] = UNKNOWN
            row[0] = len(self.tokens) - 2
            row[1 : 1 + len(words)] = words
            row[1 + len(words)] = len(self.tokens) - 1
        return torch.from_numpy(rows)

    def expand(self, weights: Mapping[str, Tensor], full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Spread a model's weights over the full vocabulary and context length; rows that were not trained are zero.

        Args:
            weights: state of a model with this vocabulary.
            full: state of the same architecture with open_clip's vocabulary; only its shapes are used.
        """
        spread = dict(weights)
        trained = {"token_embedding.weight": self.tokens, "positional_embedding": np.arange(self.longest)}
        for name, places in trained.items():
            spread[name] = torch.zeros_like(full[name])
            spread[name][torch.from_numpy(places)] = weights[name]
        return spread
