"""Frames a second out of the DataModule: from the cache of decoded frames, and decoding PNGs in every epoch.

The labels are made here: frames of 84 x 84 drawn by a simulator, repeated under keys of their own until there are
100,000, in shards of the project's own writer. The peers take turns, a block of batches each. Streaming is measured
with none and with two loader processes; its faster setting counts. Webdataset alone, its own shuffle and PIL without
any check, stands beside. How much memory streaming takes is measured in a process that does nothing else.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from datamodules.manifest import Manifest, ShardEntry, TeacherEntry
from datamodules.progress import Report, progress_bar
from datamodules.records import EMBEDDING, FRAME, Members, Sample, decode_frame, encode, encode_embedding, encode_frame
from datamodules.shards import SHARD_NAME, write_shard
from datamodules.tasks import Camera, Prompts, RenderSettings, Task
from rllib_envs.simulators import make_simulator

TASK = Task(
    name="benchmark",
    family="dm_control",
    simulator="cartpole-swingup",
    prompts=Prompts(goal=("drawn only",)),
    camera=Camera(name=0),
    render=RenderSettings(frame_pixels=84),
)
SAMPLES, EPISODE_STEPS, SHARD_SAMPLES, DRAWN, DIM = 100_000, 500, 256, 1_000, 512
BATCH, ROUNDS, BLOCK_BATCHES, CACHED_BLOCK_BATCHES = 128, 5, 32, 400
MIB = 2**20


def measure() -> dict[str, Any]:
    """Median frames a second of each peer, what filling the cache costs, and the peak memory of streaming."""
    with TemporaryDirectory(prefix="loading-") as folder, progress_bar("loading", "steps") as report:
        return _measure(Path(folder) / "labels", report)


def _measure(labels: Path, report: Report) -> dict[str, Any]:
    report(0, 4, "making labels")
    megabytes = make_labels(labels, SAMPLES, EPISODE_STEPS) / MIB
    report(1, 4, "filling the cache")
    fill_seconds = _fill_cache(labels)
    report(2, 4, "loading by turns")
    rates = _rates_by_turns(labels)
    report(3, 4, "streaming everything in a process of its own")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        streamed, peak_mib = pool.submit(stream_everything, labels).result()
    report(4, 4, "")
    png = max(rates["png"], rates["png_two_workers"])
    return {
        "medians": {f"{name}_frames_per_second": rate for name, rate in rates.items()},
        "ratios": {"cache_over_png": rates["cache"] / png, "png_over_webdataset": rates["png"] / rates["webdataset"]},
        "costs": {
            "fill_cache_seconds": fill_seconds,
            "fill_cache_frames_per_second": SAMPLES / fill_seconds,
            "streaming_peak_resident_mib": peak_mib,
            "streamed_frames": streamed,
            "shards_mib": megabytes,
        },
        "batch": BATCH,
        "rounds": ROUNDS,
    }


def make_labels(labels: Path, samples: int, episode_steps: int) -> int:
    """Write a labelled data set of so many frames and its one prompt; returns the bytes of its shards."""
    simulator, generator = make_simulator(TASK), np.random.default_rng(0)
    pictures = []
    for _ in range(DRAWN):
        simulator.random_state(generator)
        pictures.append(encode_frame(simulator.render(TASK.render.frame_pixels)))
    state = simulator.state()
    simulator.close()
    vectors = generator.normal(size=(DRAWN, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embeddings = [encode_embedding(vector, "drawn") for vector in vectors.astype(np.float16)]

    def sample(number: int) -> tuple[str, Members]:
        episode, step = divmod(number, episode_steps)
        whole = Sample(episode, step, state, true_reward=0.0, policy="random", seed=0, task=TASK.name)
        drawn = number % DRAWN
        return whole.key, {FRAME: pictures[drawn], EMBEDDING: embeddings[drawn], **encode(whole)}

    labels.mkdir(parents=True)
    shards: list[ShardEntry] = []
    for start in range(0, samples, SHARD_SAMPLES):
        numbers = range(start, min(start + SHARD_SAMPLES, samples))
        shards.append(write_shard(labels / SHARD_NAME.format(len(shards)), map(sample, numbers)))
    teacher = TeacherEntry(name="none", digest="0" * 64, dims=(DIM,), precision="float32")
    prompts = {TASK.prompts.goal[0]: vectors[0].tolist()}
    Manifest(TASK, {"policy": "random"}, tuple(shards), teacher, source="0" * 64, prompts=prompts).write(labels)
    return sum(shard.bytes for shard in shards)


def _module(labels: Path, **settings: Any) -> Any:
    from datamodules.frames_datamodule import FramesDataModule

    module = FramesDataModule(str(labels), batch_size=BATCH, **settings)
    module.prepare_data()
    module.setup("fit")
    return module


def _fill_cache(labels: Path) -> float:
    start = time.perf_counter()
    assert _module(labels).prepared, "the disk of the temporary folder has no room for decoded frames"
    return time.perf_counter() - start


def _rates_by_turns(labels: Path) -> dict[str, float]:
    """Median frames a second; every peer's first block only warms it up, so full shuffle buffers are what counts."""
    streaming = _module(labels, cache=False)
    blocks = {
        "cache": _blocks(lambda: _frames(_module(labels).train_dataloader()), CACHED_BLOCK_BATCHES),
        "png": _blocks(lambda: _frames(streaming.train_dataloader()), BLOCK_BATCHES),
        "png_two_workers": _blocks(lambda: _frames(_two_workers(streaming).train_dataloader()), BLOCK_BATCHES),
        "webdataset": _blocks(lambda: _webdataset(labels), BLOCK_BATCHES),
    }
    for block in blocks.values():
        next(block)
    taken: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(ROUNDS):
        for name, block in blocks.items():
            taken[name].append(next(block))
    return {name: median(rates) for name, rates in taken.items()}


def _two_workers(streaming: Any) -> Any:
    streaming.num_workers = 2
    return streaming


def _blocks(epoch: Callable[[], Iterator[int]], batches: int) -> Iterator[float]:
    """Frames a second of one block of batches after another, from as many epochs as it takes."""
    sizes = (size for _ in iter(int, 1) for size in epoch())
    while True:
        start = time.perf_counter()
        frames = sum(islice(sizes, batches))
        yield frames / (time.perf_counter() - start)


def _frames(loader: Any) -> Iterator[int]:
    return (len(batch.frames) for batch in loader)


def _webdataset(labels: Path) -> Iterator[int]:
    """Webdataset's own loader with PIL: nothing verified, nothing but frames decoded."""
    import webdataset

    shards = webdataset.WebDataset(
        [str(path) for path in sorted(labels.glob("*.tar"))], shardshuffle=len(list(labels.glob("*.tar"))), seed=0
    )
    frames = shards.shuffle(8192, initial=8192).map(lambda sample: decode_frame(sample[FRAME]))
    return (len(batch) for batch in frames.batched(BATCH, collation_fn=np.stack))


def stream_everything(labels: Path) -> tuple[int, float]:
    """Stream every frame of the data set once; returns their count and this process's peak resident memory in MiB."""
    module = _module(labels, cache=False)
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    frames = sum(size for loader in loaders for size in _frames(loader))
    return frames, _peak_resident_mib()


def _peak_resident_mib() -> float:
    """From /proc, because getrusage counts what the process that started this one held at that time."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
