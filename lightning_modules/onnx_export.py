"""A student as ONNX: `student.onnx`, written when a runtime first needs it, and tied to its weights by a digest."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.jit._trace import TracerWarning

from datamodules.errors import MissingDependencyError, SettingsError
from datamodules.results import write_atomically
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.student_files import CARD, ONNX, WEIGHTS

OPSET = 17
DIGEST = "student_digest"
FORMAT = b"1"
"""part of the digest: another number wherever the exported graph changes"""
INSTALL = "pip install onnx onnxruntime openvino"


def student_onnx(folder: Path, network: FrameNetwork) -> bytes:
    """The student of this folder as ONNX, from `student.onnx` if that belongs to its weights, else exported anew.

    The file is written where the folder allows it. Raises as `export_onnx` does.
    """
    digest = student_digest(folder)
    path = folder / ONNX
    with suppress(OSError):
        content = path.read_bytes()
        if recorded_digest(content) == digest:
            return content
    content = _with_digest(export_onnx(network), digest)
    with suppress(OSError):  # a folder that may only be read is a good place for students, too
        write_atomically(path, content)
    return content


def export_onnx(network: FrameNetwork) -> bytes:
    """Export frames uint8 (batch, P, P, 3) -> outputs float32 (batch, ...), `batch` being free.

    Raises:
        MissingDependencyError: the package onnx is not installed.
        SettingsError: the network uses operations that ONNX does not have.
    """
    _import_onnx()
    free = {"frames": {0: "batch"}, "outputs": {0: "batch"}}
    example = torch.zeros((2, network.pixels, network.pixels, 3), dtype=torch.uint8)  # 1 would be taken for a constant
    with TemporaryDirectory() as folder, warnings.catch_warnings(), _attention_in_parts():
        # The exporter that replaces this one needs onnxscript, a further package. Tracing warns of Python conditions in
        # timm's code, all of them on the size of the frames, which is fixed.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        path = Path(folder) / ONNX
        try:
            torch.onnx.export(
                network,
                (example,),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=["frames"],
                output_names=["outputs"],
                dynamic_axes=free,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SettingsError(f"this network cannot be exported to ONNX ({reason}): use runtime 'torch'") from error
        return path.read_bytes()


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Run the block with torch's attention in single operations: ONNX has none for the fused one of eval mode."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def student_digest(folder: Path) -> str:
    """Digest of all that a student's graph is made from: its weights and its card."""
    return sha256(FORMAT + (folder / WEIGHTS).read_bytes() + (folder / CARD).read_bytes()).hexdigest()


def recorded_digest(content: bytes) -> str | None:
    """The digest in an ONNX file's metadata; None for a file that has none or is damaged.

    Raises MissingDependencyError where onnx is not installed.
    """
    onnx = _import_onnx()
    from google.protobuf.message import DecodeError  # which onnx brings

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        return None
    return next((entry.value for entry in model.metadata_props if entry.key == DIGEST), None)


def _with_digest(content: bytes, digest: str) -> bytes:
    onnx = _import_onnx()
    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, {DIGEST: digest})
    signed: bytes = model.SerializeToString()
    return signed


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(f"the package 'onnx' is not installed: {INSTALL}") from error
    return onnx
