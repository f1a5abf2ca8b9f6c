"""Verdicts on rewards whose worth is known: perfect, inverted, constant, noise, good everywhere but at the top."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_modules.reward_audit import Bounds, Truth, measure_reward
from sweeps.audit_verdict import Judgement, interval, judge, shown

Values = NDArray[np.float64]
GENERATOR = np.random.default_rng(5)
TRUE = GENERATOR.random(2000)
NOISE = GENERATOR.random(2000)


def judged(
    reward: Values, true: Values = TRUE, success: float | None = 0.9, episodes: int = 50, widest: float = 0.3
) -> Judgement:
    truth = Truth(true, np.arange(true.size) % episodes, success, np.random.default_rng(0))
    return judge(measure_reward(reward, truth), truth, widest)


def test_a_perfect_reward_is_good_and_agrees_wholly() -> None:
    judgement = judged(0.5 + TRUE / 2)
    assert judgement.verdict == "good"
    assert judgement.agreement == pytest.approx(1.0)
    assert "It ranks states inside an episode like the true reward (Spearman 1.00" in judgement.reasons[0]
    assert "tells successes from other states (AUROC 1.000" in judgement.reasons[1]
    assert judgement.reasons[2] == "Of the 100 frames it likes best 100 are successes (by chance: 10)."


def test_an_inverted_reward_is_bad_and_says_which_way_round() -> None:
    judgement = judged(-TRUE)
    assert judgement.verdict == "bad"
    assert judgement.agreement < -0.5
    assert "the wrong way round (Spearman \N{MINUS SIGN}1.00" in judgement.reasons[0]
    assert "gives successes less than other states (AUROC .000" in judgement.reasons[1]
    assert (
        "none is a success (by chance: 10), so an agent that climbs to its top does not arrive" in judgement.reasons[2]
    )


def test_noise_is_bad_and_near_chance() -> None:
    judgement = judged(NOISE)
    assert judgement.verdict == "bad"
    assert abs(judgement.agreement) < 0.1
    assert "hardly like the true reward" in judgement.reasons[0]
    assert "does not tell successes" in judgement.reasons[1]


@pytest.mark.parametrize("reward", [np.full(2000, 0.7), 0.7 + TRUE * 1e-4])
def test_a_reward_that_hardly_varies_is_bad(reward: Values) -> None:
    judgement = judged(reward)
    assert judgement.verdict == "bad"
    assert "hardly varies" in judgement.reasons[0]


def test_a_noisy_reward_is_weak() -> None:
    judgement = judged(0.35 * TRUE + 0.65 * NOISE)
    assert judgement.verdict == "weak"
    assert any("only roughly" in reason for reason in judgement.reasons)


def test_a_reward_whose_top_is_elsewhere_is_bad_however_well_it_ranks_the_rest() -> None:
    lured = TRUE.copy()
    lured[np.flatnonzero(TRUE < 0.5)[:100]] = 2.0
    judgement = judged(lured)
    assert judgement.verdict == "bad"
    assert "none is a success" in judgement.reasons[2]


def test_a_faint_reward_is_weak_at_best() -> None:
    judgement = judged(TRUE / 20, widest=0.3)
    assert judgement.verdict == "weak"
    assert "times less than the widest reward" in judgement.reasons[-1]


def test_without_success_no_reward_is_shown_to_be_good_but_bad_ones_stay_bad() -> None:
    assert judged(TRUE, success=2.0).verdict == "unknown"
    assert "No frame is a success" in judged(TRUE, success=2.0).reasons[-1]
    assert judged(NOISE, success=2.0).verdict == "bad"
    assert judged(TRUE, success=-1.0).verdict == "unknown"


def test_a_task_without_success_is_judged_by_order_alone() -> None:
    judgement = judged(TRUE, success=None)
    assert (judgement.verdict, len(judgement.reasons)) == ("good", 1)


def test_a_true_reward_that_never_changes_says_nothing() -> None:
    judgement = judged(NOISE, true=np.zeros(2000), success=None)
    assert judgement.verdict == "unknown"
    assert "never changes inside an episode" in judgement.reasons[0]


def test_too_few_episodes_say_nothing() -> None:
    judgement = judged(TRUE, episodes=9)
    assert judgement.verdict == "unknown"
    assert "only 9 episodes" in judgement.reasons[-1]


def test_sparse_successes_are_judged_by_what_can_be_reached() -> None:
    """One frame in fifty earns anything: the best possible rank correlation is far below the mark for good."""
    true = (TRUE > 0.98).astype(float)
    judgement = judged(TRUE, true=true, success=1.0)
    assert judgement.verdict == "good"
    assert "of at most ." in judgement.reasons[0]
    assert "since many frames earn the same" in judgement.reasons[0]


def test_numbers_are_written_as_papers_do() -> None:
    assert [shown(0.914), shown(-0.5), shown(1.0), shown(0.9996, 3), shown(0.0), shown(-0.001)] == [
        ".91",
        "\N{MINUS SIGN}.50",
        "1.00",
        "1.000",
        ".00",
        ".00",
    ]
    assert interval(Bounds(0.89, 0.93)) == "95\N{NO-BREAK SPACE}% .89 to .93"
