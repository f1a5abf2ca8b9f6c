"""A video of one episode: the task's camera beside the curve of the reward that trained the agent."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rllib_envs.agent_files import Policy
from rllib_envs.reward_env import RewardVectorEnv

SIDE = 256
"""pixels of the frame and of the panel beside it; H.264 wants multiples of 16"""
SECONDS = 10.0
"""what the length of an episode is brought near to"""
FRAMES_PER_SECOND = (10, 50)
MARGIN, TOP = 14, 44
INK, MUTED, LINE, PAPER = (30, 30, 34), (120, 120, 128), (0, 102, 204), (255, 255, 255)

Frame = NDArray[np.uint8]


def record_episode(environment: RewardVectorEnv, policy: Policy, seed: int, path: Path) -> None:
    """Play one episode in a single-simulator environment and write it as H.264."""
    frames: list[Frame] = []
    rewards: list[float] = []
    observations, _ = environment.reset(seed=[seed])
    ended = False
    while not ended:
        observations, reward, terminated, truncated, _ = environment.step(policy(observations))
        frames.append(environment.render(SIDE)[0])
        rewards.append(float(reward[0]))
        ended = bool(terminated[0] or truncated[0])
    low, high = FRAMES_PER_SECOND
    rate = min(max(round(len(frames) / SECONDS), low), high)
    write_video(path, [beside_curve(frame, rewards, step) for step, frame in enumerate(frames)], rate)


def beside_curve(frame: Frame, rewards: Sequence[float], step: int) -> Frame:
    """The frame (S, S, 3) with a panel to its right that draws `rewards` up to `step`: (S, 2 S, 3)."""
    side = frame.shape[0]
    panel = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(panel)
    draw.text((MARGIN, 12), "reward the agent was trained on", fill=MUTED)
    draw.text((MARGIN, 26), f"step {step + 1}: {rewards[step]:+.2f}", fill=INK)
    low, high = min(rewards), max(rewards)
    width, height = side - 2 * MARGIN, side - TOP - 2 * MARGIN
    scale = height / (high - low) if high > low else 0.0
    points = [
        (MARGIN + width * index / max(len(rewards) - 1, 1), side - MARGIN - 10 - (reward - low) * scale)
        for index, reward in enumerate(rewards[: step + 1])
    ]
    draw.text((MARGIN, TOP - 4), f"{high:+.2f}", fill=MUTED)
    draw.text((MARGIN, side - MARGIN - 6), f"{low:+.2f}", fill=MUTED)
    if len(points) > 1:
        draw.line(points, fill=LINE, width=2)
    x, y = points[-1]
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=LINE)
    return np.concatenate([frame, np.asarray(panel)], axis=1)


def write_video(path: Path, frames: Sequence[Frame], frames_per_second: int) -> None:
    """Write frames as an mp4 that browsers play, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        with imageio.get_writer(temporary, fps=frames_per_second, codec="libx264", pixelformat="yuv420p") as writer:
            for frame in frames:
                writer.append_data(frame)  # type: ignore[attr-defined]  # missing in its annotations
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
