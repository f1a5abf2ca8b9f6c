"""Frames of 84 x 84 from this project's renderer beside dm_control's `physics.render` with its defaults.

Both draw the same states of the same simulators, by turns; only the drawing is timed. `same_quality` is our renderer
with everything that the default draws: shadows, reflections, 4 samples a pixel.
"""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from datamodules.tasks import Camera, Prompts, RenderSettings, Task
from rllib_envs.simulators import make_simulator
from sweeps.benchmarks import interleaved_medians

PIXELS = 84
ROUNDS = 100
SIMULATORS = {"cartpole": "cartpole-swingup", "walker": "walker-walk"}
DEFAULT_QUALITY = RenderSettings(frame_pixels=PIXELS, shadows=True, reflections=True, multisamples=4)


def measure() -> dict[str, Any]:
    """Median milliseconds a frame, and how many times faster the fast setting is than the default."""
    medians: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for short, simulator in SIMULATORS.items():
        found = _measure_simulator(simulator)
        medians |= {f"{short}_{peer}_ms": milliseconds for peer, milliseconds in found.items()}
        ratios[f"fast_over_default_{short}"] = found["default"] / found["fast"]
    return {"medians": medians, "ratios": ratios, "frame_pixels": PIXELS, "rounds": ROUNDS}


def _measure_simulator(name: str) -> dict[str, float]:
    task = Task(
        name="benchmark",
        family="dm_control",
        simulator=name,
        prompts=Prompts(goal=("drawn only",)),
        camera=Camera(name=0),
        render=RenderSettings(frame_pixels=PIXELS),
    )
    fast = make_simulator(task)
    suite = import_module("dm_control.suite")  # after make_simulator, which settles the GL backend for it
    same_quality = make_simulator(replace(task, render=DEFAULT_QUALITY))
    suites_own = suite.load(*name.split("-"), task_kwargs={"random": 0})
    out = np.empty((PIXELS, PIXELS, 3), dtype=np.uint8)

    def show_same_state(number: int) -> None:
        fast.reset(number)
        same_quality.reset(number)
        suites_own.task.random.seed(number)
        suites_own.reset()

    return interleaved_medians(
        {
            "default": lambda: suites_own.physics.render(height=PIXELS, width=PIXELS, camera_id=0),
            "same_quality": lambda: same_quality.render(PIXELS, out),
            "fast": lambda: fast.render(PIXELS, out),
        },
        ROUNDS,
        before=show_same_state,
    )
