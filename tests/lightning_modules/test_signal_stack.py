"""The signal stack after OpenVINO, in a process of its own: a freed one may crash whatever runs there later."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

PROGRAM = """
import ctypes, faulthandler
import numpy as np
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.onnx_export import export_onnx
from lightning_modules.runtimes import open_runtime
from lightning_modules.student_network import StudentNetwork

def signal_stack():
    place = (ctypes.c_char * 24)()  # stack_t
    ctypes.CDLL(None).sigaltstack(None, place)
    return bytes(place)

faulthandler.enable()  # registers the stack that OpenVINO replaces
before = signal_stack()
network = FrameNetwork(StudentNetwork("test_efficientnet", 32, 8).eval(), 32)
content = export_onnx(network)
runtime = open_runtime("openvino", network, lambda: content)
runtime(np.zeros((3, 32, 32, 3), np.uint8))
print("kept" if signal_stack() == before else "replaced")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's stack_t is known")
def test_openvino_leaves_no_signal_stack_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "kept\n"), done.stderr
