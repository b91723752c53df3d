"""The primitive `noise` of space S4 (arXiv 1909.09656), which replaces its input by N(0, 1).

It has no parameters and no gradient. In training mode and in a supernet every pass draws new noise.
A derived network has one fixed draw for each op in evaluation mode, so that its output for an image
does not depend on the other images of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archgrad.seeds import generator

DRAWN = "drawn"


class Noise(nn.Module):
    """The noise op. ``drawn`` (C, H, W) is its output in evaluation mode.

    If ``drawn`` is None, every pass draws new noise. Networks that were recorded before this option
    existed have no such draw.
    """

    drawn: Tensor | None

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer(DRAWN, None)

    def forward(self, state: Tensor) -> Tensor:
        """Return noise of the shape of state (B, C, H, W), divided by the stride.

        Raises:
            ValueError: In evaluation mode, images have another size than those of the draw.
        """
        part = state.detach()[:, :, :: self.stride, :: self.stride]
        if self.training or self.drawn is None:
            return torch.randn_like(part)
        if self.drawn.shape != part.shape[1:]:
            drawn, given = (
                "x".join(map(str, shape[1:])) for shape in (self.drawn.shape, part.shape[1:])
            )
            raise ValueError(
                f"this network has noise drawn for feature maps of {drawn}, not {given}: "
                "take images of the size it was trained on"
            )
        return self.drawn.to(part).expand_as(part).contiguous(memory_format=torch.channels_last)


def noise_ops(network: nn.Module) -> dict[str, Noise]:
    """Return the noise ops of a network by their names."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Noise)}


def fix_noise(network: nn.Module, size: int, in_channels: int, seed: int) -> None:
    """Give each noise op of a network a fixed draw for evaluation mode.

    A network without noise is not changed, and not run.

    Args:
        network: The network.
        size: Side of its images in pixels.
        in_channels: Channels of its images.
        seed: Seed of the draws. A draw depends on the seed and the name of the op.
    """
    ops = noise_ops(network)
    if not ops:
        return
    shapes: dict[str, torch.Size] = {}

    def look(name: str) -> torch.utils.hooks.RemovableHandle:
        return ops[name].register_forward_hook(
            lambda module, inputs, output: shapes.update({name: output.shape[1:]})
        )

    handles, training = [look(name) for name in ops], network.training
    image = next(network.parameters()).new_zeros(1, in_channels, size, size)
    with torch.no_grad(), torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
        network.eval()(image)
    network.train(training)
    for handle in handles:
        handle.remove()
    for name, shape in shapes.items():
        ops[name].drawn = torch.randn(shape, generator=generator(seed, "noise", name)).to(
            image.device
        )


def release_noise(network: nn.Module) -> None:
    """Remove the fixed draws of the noise ops, so that every pass draws new noise."""
    for op in noise_ops(network).values():
        op.drawn = None


def are_fixed(state: dict[str, Tensor]) -> bool:
    """Return whether a saved state contains fixed draws of noise ops."""
    return any(name.endswith(f".{DRAWN}") for name in state)
