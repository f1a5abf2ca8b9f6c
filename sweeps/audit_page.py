"""An audit's page: the answer and all figures as plain HTML, and a sample of the frames that follows a slider."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from datamodules.results import versions
from lightning_modules.reward_audit import RewardFigures
from sweeps.answer import duration
from sweeps.audit import Audit, AuditedAlpha, AuditedCandidate
from sweeps.audit_answer import answer_of, coverage_of, remarks_on, warnings_of
from sweeps.audit_verdict import FAINT, FEWEST_EPISODES, FLAT, THRESHOLDS, interval, plain_interval, shown
from sweeps.pages import TEMPLATES, data_uri, write_page

LIVE_FRAMES = 2_000
"""frames inside the page: a slider's move ranks them all, and each is there as a picture"""
SPRITE_BYTES = 3_500_000
"""base64 adds a third, and the page must stay below 6 MB"""
TILE_PIXELS = 84
SCRIPTS = ("audit_measures.js", "audit_view.js")


def write_audit_page(path: Path, found: Audit, result: Mapping[str, Any]) -> Path:
    """Write the page, whole or not at all, and return its path; `result` is what result.json says beside the audit."""
    script = "\n".join((TEMPLATES / name).read_text() for name in SCRIPTS)
    rows = live_rows(found.truth.episode, found.truth.reward)
    return write_page(
        path,
        "audit.html.j2",
        {
            "task": found.manifest.task.name,
            "teacher": found.manifest.teacher,
            "answer": answer_of(found),
            "tiles": _tiles(found, result),
            "warnings": warnings_of(found),
            "table": [_row(found, each) for each in found.candidates],
            "linear": _figures(found.linear),
            "successes_known": found.truth.success is not None,
            "top": found.truth.top,
            "attainable": shown(found.truth.attainable) if found.truth.attainable < 0.995 else None,
            "coverage": coverage_of(found),
            "judged": found.truth.judged_episodes,
            "successes": _successes(found),
            "thresholds": [(each.measure, shown(each.good), shown(each.bad), each.why) for each in THRESHOLDS],
            "limits": {"episodes": FEWEST_EPISODES, "flat": f"{FLAT:g}", "faint": f"{FAINT:.0%}"},
            "shares": [f"{share:.0%}" for share in found.diversity.shares],
            "dimensions": f"{found.diversity.effective_dimensions:.1f}",
            "live": {
                "frames": len(rows),
                "all": found.truth.reward.size,
                "episodes": _count(found.truth.episode[rows]),
            },
            "data": script_json(live_data(found, rows)),
            "script": script,
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "command": result["command"],
            "seed": result["seed"],
            "versions": versions(),
        },
    )


def live_rows(episode: NDArray[Any], true_reward: NDArray[Any], most: int = LIVE_FRAMES) -> NDArray[np.int64]:
    """Numbers of at most `most` frames, ascending: whole episodes, evenly chosen in order of their mean true reward.

    Where two episodes alone are longer than that, every k-th frame of two episodes' worth is kept instead.
    """
    names, group, lengths = np.unique(episode, return_inverse=True, return_counts=True)
    if group.size <= most:
        return np.arange(group.size)
    by_reward = np.argsort(np.bincount(group, true_reward) / lengths, kind="stable")
    wanted = min(names.size, max(2, int(most / lengths.mean())))
    while True:
        chosen = by_reward[np.linspace(0, names.size - 1, wanted).round().astype(int)]
        rows = np.flatnonzero(np.isin(group, chosen))
        if rows.size <= most:
            return rows
        if wanted <= 2:
            return rows[:: math.ceil(rows.size / most)]
        wanted -= 1


def live_data(found: Audit, rows: NDArray[np.int64]) -> dict[str, Any]:
    """What the page's script needs: two dot products for each candidate and CLIP, and constants, for these frames."""
    truth, teacher = found.truth, found.manifest.teacher
    assert teacher is not None, "labelled frames have a teacher"
    sprite, tile, columns = sprite_of(found.frames.frames[rows])
    best = answer_of(found)
    return {
        "candidates": [_live_candidate(found, each, rows, teacher.dims) for each in found.candidates],
        "start": {"candidate": best.candidate, "alpha": best.alpha},
        "truth": _packed(truth.reward[rows], np.float32),
        "success": None if truth.success is None else _packed(truth.success[rows], np.uint8),
        "episode": _packed(truth.episode[rows], np.uint32),
        "step": _packed(found.frames.step[rows], np.uint32),
        "plane": _packed(found.diversity.plane[rows], np.float32),
        "top": max(1, round(truth.top * len(rows) / truth.reward.size)),
        "sprite": data_uri("image/webp", sprite),
        "tile": tile,
        "columns": columns,
    }


def script_json(content: Mapping[str, Any]) -> str:
    """JSON that can stand inside a script element, whatever its strings hold."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def sprite_of(frames: NDArray[np.uint8]) -> tuple[bytes, int, int]:
    """All frames (N, P, P, 3) side by side in one WebP: its bytes, the side of a tile in pixels, tiles in a row."""
    columns = math.ceil(math.sqrt(len(frames)))
    tile, quality = min(TILE_PIXELS, frames.shape[1]), 80
    while True:
        sheet = Image.new("RGB", (columns * tile, math.ceil(len(frames) / columns) * tile))
        for number, frame in enumerate(frames):
            picture = Image.fromarray(frame).resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(picture, (number % columns * tile, number // columns * tile))
        stream = BytesIO()
        sheet.save(stream, format="WEBP", quality=quality)
        if len(stream.getvalue()) <= SPRITE_BYTES or tile <= 16:
            return stream.getvalue(), tile, columns
        tile = max(16, tile * 2 // 3)


def _live_candidate(
    found: Audit, each: AuditedCandidate, rows: NDArray[np.int64], dims: tuple[int, ...]
) -> dict[str, Any]:
    g, b = each.goal.astype(np.float64).mean(axis=0), None
    line = bool(len(each.baseline)) and each.line_exists
    if line:
        b = each.baseline.astype(np.float64).mean(axis=0)
    embeddings = np.asarray(found.frames.embeddings[rows], np.float32)
    parts, start = [], 0
    for dim in dims:
        own = slice(start, start + dim)
        s, gg = embeddings[:, own], g[own]
        bb = np.zeros_like(gg) if b is None else b[own]
        parts.append(
            {
                "sg": _packed(s @ gg, np.float32),
                "sb": _packed(s @ bb, np.float32) if line else "",
                "gg": float(gg @ gg),
                "bb": float(bb @ bb),
                "gb": float(gg @ bb),
            }
        )
        start += dim
    return {
        "name": each.candidate.name,
        "goal": each.candidate.goal,
        "baseline": each.candidate.baseline,
        "control": each.candidate.control,
        "line": line,
        "best": each.best.alpha,
        "measured": [
            {"alpha": at.alpha, "verdict": at.judgement.verdict, "reasons": at.judgement.reasons} for at in each.alphas
        ],
        "parts": parts,
    }


def _packed(values: NDArray[Any], dtype: DTypeLike) -> str:
    """Numbers as base64 of their little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def _tiles(found: Audit, result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(figure, name, remark) of the best candidate, and the cost."""
    at = found.best.best.figures
    truth = found.truth
    tiles = [
        (shown(at.spearman_within_episode), "Spearman, inside an episode", interval(at.spearman_bounds)),
    ]
    if at.auroc is not None and at.auroc_bounds is not None:
        tiles.append((shown(at.auroc, 3), "AUROC of successes", interval(at.auroc_bounds)))
        by_chance = truth.top * truth.base_rate
        tiles.append((f"{at.top_successes} of {truth.top}", "successes at its top", f"{by_chance:.0f} by chance"))
    tiles.append((f"{truth.reward.size:,}", "frames compared", f"{truth.episodes:,} episodes"))
    tiles.append(("0", "teacher queries", f"{duration(result['seconds'])} on this machine"))
    return tiles


def _row(found: Audit, each: AuditedCandidate) -> dict[str, Any]:
    """One line of the comparison table."""
    return {
        "name": each.candidate.name,
        "goal": each.candidate.goal,
        "baseline": each.candidate.baseline,
        "control": each.candidate.control,
        "alpha": f"{each.best.alpha:g}",
        "verdict": each.best.judgement.verdict,
        "rank": found.ranks[each.candidate.name],
        "reasons": each.best.judgement.reasons,
        "remarks": remarks_on(each),
        "alphas": [_alpha_row(at) for at in each.alphas],
        **_figures(each.best.figures),
    }


def _alpha_row(at: AuditedAlpha) -> dict[str, Any]:
    return {"alpha": f"{at.alpha:g}", "verdict": at.judgement.verdict, **_figures(at.figures)}


def _figures(figures: RewardFigures) -> dict[str, Any]:
    """The table's figures of one reward in words; their sort keys beside them."""
    auroc = figures.auroc
    return {
        "spearman": shown(figures.spearman_within_episode),
        "spearman_bounds": plain_interval(figures.spearman_bounds),
        "spearman_key": figures.spearman_within_episode,
        "pooled": shown(figures.spearman),
        "pearson": shown(figures.pearson),
        "pearson_key": figures.pearson,
        "auroc": None if auroc is None else shown(auroc, 3),
        "auroc_bounds": None if figures.auroc_bounds is None else plain_interval(figures.auroc_bounds),
        "auroc_key": auroc,
        "top_successes": figures.top_successes,
        "epic": shown(figures.epic),
        "epic_key": figures.epic,
        "std": f"{figures.std:.2g}",
        "std_key": figures.std,
        "range": f"{figures.histogram.low:.3f} to {figures.histogram.high:.3f}".replace("-", "\N{MINUS SIGN}"),
    }


def _successes(found: Audit) -> str:
    truth, task = found.truth, found.manifest.task
    if truth.successes is None:
        return "This task states no success_reward, so there are no successes to tell apart."
    return (
        f"A frame is a success when its true reward, a simulator frame, is at least {task.success_reward:g}: "
        f"{truth.successes:,} of {truth.reward.size:,} are ({truth.base_rate:.1%})."
    )


def _count(values: NDArray[Any]) -> int:
    return int(np.unique(values).size)
