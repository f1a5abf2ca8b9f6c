"""What runs a student: torch, torch.compile, ONNX Runtime, OpenVINO, CUDA graphs. Frames in, numpy out, all alike."""

from collections.abc import Callable
from math import gcd
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.errors import DataError, MissingDependencyError, SuiteError, UnknownNameError
from datamodules.pixels import as_tensor
from lightning_modules.batch_sizes import FixedBatches, Program
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.onnx_export import INSTALL
from lightning_modules.signal_stack import kept_signal_stack

RuntimeName = Literal["torch", "compile", "onnx", "openvino", "openvino_bf16", "cuda"]
RUNTIMES: tuple[RuntimeName, ...] = get_args(RuntimeName)
TOLERANCE: dict[RuntimeName, float] = {
    "torch": 0.0,
    "compile": 1e-3,
    "onnx": 1e-3,
    "openvino": 1e-3,
    "openvino_bf16": 0.05,
    "cuda": 0.05,  # bfloat16 as well
}
"""furthest from eager float32 torch that an output of size up to 1 may be, and relative to larger ones. Rewards have
deviation 1, so .05 is a twentieth of their spread."""

Outputs = NDArray[np.float32]
Onnx = Callable[[], bytes]


class Runtime(Protocol):
    """A network that is ready to run."""

    def __call__(self, frames: NDArray[np.uint8]) -> Outputs:
        """Frames uint8 (B, P, P, 3) in any memory layout -> float32 (B, ...), the caller's own to write to."""
        ...


def open_runtime(name: str, network: FrameNetwork, onnx: Onnx) -> Runtime:
    """Make a runtime ready and check that it gives the network's numbers. Takes torch's present number of threads.

    Args:
        name: one of RUNTIMES.
        network: on the CPU.
        onnx: gives the network as ONNX; called by the runtimes that need it.

    Raises:
        UnknownNameError: there is no such runtime.
        MissingDependencyError: what the runtime needs is not installed; the message says how to get it.
        DataError: the runtime cannot run this network, or gives other numbers than torch.
    """
    if name not in RUNTIMES:
        raise UnknownNameError("runtime", name, ("auto", *RUNTIMES))
    try:
        runtime = _MAKERS[name](network, onnx)
        difference = 0.0 if name == "torch" else largest_difference(runtime, network)
    except SuiteError:
        raise
    except Exception as failure:  # each library has errors of its own, and some have several
        reason = (str(failure).strip() or type(failure).__name__).splitlines()[-1]
        raise DataError(f"runtime {name!r} cannot run this student ({reason}): use runtime 'torch'") from failure
    if not difference <= TOLERANCE[name]:
        raise DataError(
            f"runtime {name!r} is {difference:.2g} away from what torch gives for this student, "
            f"and {TOLERANCE[name]} is allowed: use runtime 'torch'"
        )
    return runtime


def available_runtimes() -> tuple[RuntimeName, ...]:
    """The runtimes worth comparing on this machine, from what is installed.

    torch.compile is never among them: it compiles for 10 to 25 seconds in every process. Measured on 2 cores at batch
    16, it was 1.0 (test_efficientnet) to 1.6 times (efficientnet_b0) as fast as eager torch, OpenVINO 2.4 to 3.2 times.
    """
    found: list[RuntimeName] = ["torch"]
    with_libraries: dict[RuntimeName, Callable[[], object]] = {"onnx": _import_onnxruntime, "openvino": _openvino_core}
    for name, load in with_libraries.items():
        try:
            load()
        except MissingDependencyError:
            continue
        found.append(name)
    if "openvino" in found and "BF16" in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        found.append("openvino_bf16")
    return (*found, "cuda") if torch.cuda.is_available() else tuple(found)


def largest_difference(runtime: Runtime, network: FrameNetwork) -> float:
    """How far a runtime is from eager torch on a few made-up frames, relative to outputs larger than 1."""
    frames = check_frames_of(network.pixels)
    expected = _torch(network, None)(frames)
    given = np.concatenate([runtime(frame[None]) for frame in frames])  # graphs of other batch sizes are made later
    return float(np.max(np.abs(given - expected) / np.maximum(1.0, np.abs(expected))))


def check_frames_of(pixels: int) -> NDArray[np.uint8]:
    """Frames uint8 (3, P, P, 3), always the same: random colours in a grid of squares, as rendered scenes are flat."""
    grid = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    position = np.arange(pixels) * 6 // pixels
    return grid[:, position][:, :, position]


def _torch(network: FrameNetwork, onnx: Onnx | None) -> Runtime:
    return _called_by_torch(network)


def _compile(network: FrameNetwork, onnx: Onnx) -> Runtime:
    return _called_by_torch(torch.compile(network, dynamic=True))  # one program for every batch size from 2 on


def _called_by_torch(network: Callable[[Tensor], Tensor]) -> Runtime:
    def score(frames: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            outputs: Outputs = network(as_tensor(frames)).numpy()
        return outputs

    return score


def _onnx(network: FrameNetwork, onnx: Onnx) -> Runtime:
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, too
    session = onnxruntime.InferenceSession(onnx(), options, providers=["CPUExecutionProvider"])

    def score(frames: NDArray[np.uint8]) -> Outputs:
        outputs: Outputs = session.run(None, {"frames": frames})[0]
        return outputs

    return score


def _openvino(network: FrameNetwork, onnx: Onnx, precision: str = "f32") -> Runtime:
    core = _openvino_core()
    content = onnx()
    threads = torch.get_num_threads()

    def make_program(batch_size: int) -> Program:
        # Each stream is a group of threads that takes an equal share of the batch: sharing frames costs less than
        # sharing every layer (batch 16 on 2 cores: 8.3 -> 5.0 ms, efficientnet_b0).
        streams = gcd(batch_size, threads)
        share = batch_size // streams
        model = core.read_model(content)
        model.reshape([share, network.pixels, network.pixels, 3])  # a fixed shape is a quarter to a half faster
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # it would tie all processes of an agent's runners to the same first cores
        }
        with kept_signal_stack():
            compiled = core.compile_model(model, "CPU", settings)
            requests = [compiled.create_infer_request() for _ in range(streams)]
        inputs = [request.get_input_tensor().data for request in requests]
        outputs = [request.get_output_tensor().data for request in requests]

        def program(frames: NDArray[np.uint8]) -> Outputs:
            for number, own in enumerate(inputs):
                own[:] = frames[number * share : (number + 1) * share]
            if streams == 1:  # in this thread: handing over to another takes a fifth of a small network's time
                requests[0].infer(share_outputs=True)
                only: Outputs = outputs[0].copy()
                return only
            for request in requests:
                request.start_async()
            for request in requests:
                request.wait()
            return np.concatenate(outputs)

        return program

    return FixedBatches(make_program)


def _openvino_bf16(network: FrameNetwork, onnx: Onnx) -> Runtime:
    return _openvino(network, onnx, "bf16")


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"the package 'onnxruntime' is not installed: {INSTALL}") from error
    return onnxruntime


def _openvino_core() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(f"the package 'openvino' is not installed: {INSTALL}") from error
    with kept_signal_stack():
        return openvino.Core()


def _cuda(network: FrameNetwork, onnx: Onnx) -> Runtime:
    from lightning_modules.cuda_graphs import cuda_graphs

    return cuda_graphs(network)


_MAKERS: dict[str, Callable[[FrameNetwork, Onnx], Runtime]] = {
    "torch": _torch,
    "compile": _compile,
    "onnx": _onnx,
    "openvino": _openvino,
    "openvino_bf16": _openvino_bf16,
    "cuda": _cuda,
}
