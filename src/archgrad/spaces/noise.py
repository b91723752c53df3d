"""The primitive `noise` of space S4 (arXiv 1909.09656): N(0, 1) of the input's shape, instead of the input. No parameters, no gradient.

While a network trains, and in a supernet, every pass draws anew. A derived network of this archgrad has one draw an op for its evaluations, so
that its answer to an image does not depend on the images beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archgrad.seeds import generator

DRAWN = "drawn"


class Noise(nn.Module):
    """``drawn`` (C, H, W) is what it adds in evaluation mode; None: every pass draws anew, as networks did that were recorded without it."""

    drawn: Tensor | None

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer(DRAWN, None)

    def forward(self, state: Tensor) -> Tensor:
        """state (B, C, H, W). ValueError in evaluation mode for images of another size than the draw is for."""
        part = state.detach()[:, :, :: self.stride, :: self.stride]
        if self.training or self.drawn is None:
            return torch.randn_like(part)
        if self.drawn.shape != part.shape[1:]:
            there, here = (
                "x".join(map(str, shape[1:])) for shape in (self.drawn.shape, part.shape[1:])
            )
            raise ValueError(
                f"this network has noise drawn for feature maps of {there}, not {here}: take images of the size it was trained on"
            )
        return self.drawn.to(part).expand_as(part).contiguous(memory_format=torch.channels_last)


def noises(network: nn.Module) -> dict[str, Noise]:
    """The noise ops of a network by their names."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Noise)}


def fix(network: nn.Module, size: int, in_channels: int, seed: int) -> None:
    """Gives each noise op of ``network`` the draw it has in evaluation mode, for images of ``size`` pixels: a function of the seed and of the
    op's name. A network without noise stays as it is, and is not run."""
    ops = noises(network)
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


def free(network: nn.Module) -> None:
    """Every pass of the noise ops draws anew again."""
    for op in noises(network).values():
        op.drawn = None


def are_fixed(state: dict[str, Tensor]) -> bool:
    """Whether a saved state holds the draws of noise ops."""
    return any(name.endswith(f".{DRAWN}") for name in state)
