"""The training vocabulary beside open_clip's own tokenizer."""

import numpy as np
import open_clip
import pytest
import torch

from lightning_modules.caption_vocabulary import UNKNOWN, Vocabulary
from tests.captioned_squares import SENTENCES


def test_it_holds_the_tokens_of_the_sentences_and_the_end_of_text_is_the_highest() -> None:
    vocabulary, tokenizer = Vocabulary(SENTENCES), open_clip.get_tokenizer("")
    assert vocabulary.tokens[-1] == tokenizer.eot_token_id
    assert set(tokenizer.encode("a picture of a white square")) <= set(vocabulary.tokens.tolist())
    assert set(tokenizer.encode("pole")).isdisjoint(vocabulary.tokens.tolist())


def test_sentences_are_encoded_as_open_clip_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vocabulary, "DROP", 0.0)
    vocabulary = Vocabulary(SENTENCES)
    texts = ["a picture of a white square", "a disc"]
    places = vocabulary.encode(texts, np.random.default_rng(0)).numpy()
    expected = open_clip.get_tokenizer("")(texts, context_length=vocabulary.longest).numpy()
    np.testing.assert_array_equal(vocabulary.tokens[places], expected)


def test_dropped_words_become_unknown_and_the_ends_stay() -> None:
    vocabulary = Vocabulary(SENTENCES)
    rows = vocabulary.encode(["a picture of a white square"] * 300, np.random.default_rng(0)).numpy()
    dropped = (rows[:, 1:7] == UNKNOWN).mean()
    assert dropped == pytest.approx(Vocabulary.DROP, abs=0.03)
    assert (rows[:, 0] == len(vocabulary.tokens) - 2).all()
    assert (rows[:, 7] == len(vocabulary.tokens) - 1).all()


def test_expanded_weights_hold_each_row_in_its_place_and_zero_elsewhere() -> None:
    vocabulary = Vocabulary(SENTENCES)
    size, length = len(vocabulary.tokens), vocabulary.longest
    weights = {
        "token_embedding.weight": torch.arange(1.0, size + 1)[:, None],
        "positional_embedding": torch.ones(length, 1),
        "logit_scale": torch.tensor(3.0),
    }
    full = {"token_embedding.weight": torch.ones(49408, 1), "positional_embedding": torch.ones(77, 1)}
    spread = vocabulary.expand(weights, full)
    assert spread["token_embedding.weight"][vocabulary.tokens, 0].tolist() == list(range(1, size + 1))
    assert int((spread["token_embedding.weight"] != 0).sum()) == size
    assert spread["positional_embedding"][:, 0].tolist() == [1.0] * length + [0.0] * (77 - length)
    assert spread["logit_scale"] == 3.0
