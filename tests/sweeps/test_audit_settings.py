"""Lists of candidates: what is refused, and with which words."""

from dataclasses import replace

import pytest

from datamodules.errors import SettingsError
from datamodules.tasks import Prompts
from sweeps.audit_settings import ALPHAS, Candidate, PromptList, own_prompts

PAIR = Candidate("pair", ("a pole upright",), ("a pole",))
ALONE = Candidate("alone", ("a pole upright",), alphas=(0.0,))


def test_a_candidate_takes_the_alphas_of_the_list_unless_it_has_its_own() -> None:
    prompts = PromptList((PAIR, ALONE, replace(PAIR, name="own", alphas=(0.9, 0.1, 0.9))))
    assert [prompts.alphas_of(each) for each in prompts.candidates] == [ALPHAS, (0.0,), (0.1, 0.9)]


@pytest.mark.parametrize(
    ("candidates", "alphas", "message"),
    [
        ((), ALPHAS, "candidates is empty"),
        ((PAIR, PAIR), ALPHAS, "two candidates are called 'pair'"),
        ((replace(ALONE, alphas=()),), ALPHAS, r"'alone' has no baseline, and alpha 1 needs one.*`alphas: \[0\]`"),
        ((replace(ALONE, alphas=(0.25,)),), ALPHAS, "'alone' has no baseline, and alpha 0.25 needs one"),
        ((PAIR,), (), "'pair' has no alpha to try"),
        ((PAIR,), (0.5, 1.5), r"'pair': prompts.alpha is 1.5"),
        ((PAIR,), (-0.5,), r"'pair': prompts.alpha is -0.5"),
        ((replace(PAIR, goal=()),), ALPHAS, "'pair': prompts.goal is empty"),
        ((replace(PAIR, baseline=(" ",)),), ALPHAS, "'pair': prompts.baseline holds an empty sentence"),
        ((replace(PAIR, name=" "),), ALPHAS, "has an empty name"),
    ],
)
def test_a_mistake_is_named(candidates: tuple[Candidate, ...], alphas: tuple[float, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PromptList(candidates, alphas)


def test_own_prompts_are_tried_at_the_tasks_alpha_and_the_usual_ones() -> None:
    prompts = own_prompts(Prompts(("a pole upright",), ("a pole",), 0.3))
    assert prompts.alphas == (0.0, 0.25, 0.3, 0.5, 0.75, 1.0)
    assert own_prompts(Prompts(("a pole upright",))).alphas == (0.0,)
