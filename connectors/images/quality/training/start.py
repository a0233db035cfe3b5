"""Weights to begin with: those of a model file, brought back into a form that can learn.

In the file each normalisation is folded into its convolution. Here it is unfolded: the
convolution keeps the folded weights, the normalisation gets the mean and variance that its
input has over some pictures, and the gain and offset that undo them. The network says what the
file says, and its normalisations are as training wants them.

A file of the first stage as it once was gives its weights, too: it had 22 channels, the same ones
without those that are nought, and its blocks of pixels lay one pixel further. The scores differ a
little, how well they rank pictures does not.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from connectors.images.quality.training.network import COLOURS, Network, Unit

if TYPE_CHECKING:
    from pathlib import Path

    from connectors.images.quality.training.pool import Pool

PICTURES = 256
"""That mean and variance are taken over."""


def begin(network: Network, file: Path, pool: Pool) -> None:
    """Give ``network`` the weights of a model file (``.onnx``) or of a training run (``.pt``)."""
    if file.suffix == ".onnx":
        _folded(network, file)
        _unfold(network, pool)
    else:
        network.load_state_dict(torch.load(file)["weights"])


def _units(network: Network) -> list[Unit]:
    """Return the convolutions with a normalisation, in the order in which they run."""
    return [module for module in network.modules() if isinstance(module, Unit)]


def _folded(network: Network, file: Path) -> None:
    """Read the file; every normalisation adds the folded offset and does nothing else."""
    graph = onnx.load(file).graph
    held = {
        tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
        for tensor in graph.initializer
    }
    pairs = [node.input[1:3] for node in graph.node if node.op_type == "Conv"]
    units, state = _units(network), network.state_dict()
    folded = [pair for pair in pairs if len(pair) == 2 and pair[0] not in state]
    if len(folded) != len(units):
        raise SystemExit(f"{file} has {len(folded)} convolutions, the network {len(units)}.")
    state.update({name: _widened(held[name], state[name]) for name in state if name in held})
    network.load_state_dict(state)
    with torch.no_grad():
        for unit, (weight, offset) in zip(units, folded, strict=True):
            unit.conv.weight.copy_(_widened(held[weight], unit.conv.weight))
            unit.norm.running_mean.zero_()
            unit.norm.running_var.fill_(1 - unit.norm.eps)
            unit.norm.weight.fill_(1)
            unit.norm.bias.copy_(held[offset])


def _widened(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a file's weight in the network's shape, noughts for inputs it did not have."""
    if weight.shape[1:2] == like.shape[1:2]:
        return weight.reshape(like.shape)
    wide = torch.zeros_like(like)
    known = COLOURS + 3
    wide[:, :known], wide[:, -3:] = weight[:, :known], weight[:, -3:]
    return wide


@torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
def _unfold(network: Network, pool: Pool) -> None:
    """Measure what each normalisation gets, and let it take that off and put it back."""
    seen: dict[Unit, list[torch.Tensor]] = {unit: [] for unit in _units(network)}
    watches = [
        unit.conv.register_forward_hook(
            lambda _module, _inputs, out, unit=unit: seen[unit].append(
                torch.stack((out.mean((0, 2, 3)), out.square().mean((0, 2, 3))))
            )
        )
        for unit in seen
    ]
    network.eval()
    for at in range(0, min(PICTURES, len(pool)), 32):
        network(torch.from_numpy(np.array(pool.pictures[at : at + 32])))
    for watch in watches:
        watch.remove()
    for unit, found in seen.items():
        mean, square = torch.stack(found).mean(0)
        norm = unit.norm
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(square - mean.square())
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.add_(mean)
