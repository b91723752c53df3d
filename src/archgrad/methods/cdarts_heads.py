"""The introspective distillation of CDARTS (arXiv 2006.10724).

Each network has three logits for an image: one of a head behind the first stage, one of a head
behind the second stage, and one of its classifier. An ensemble weighs the three. The distillation
is a distance between the ensembles of both networks. Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.arch.passes import Output

Distance = Callable[[Tensor, Tensor], Tensor]
"""Logits of the student and of the teacher, each (3B, K) or (B, K) -> their distance, a scalar."""


class Head(nn.Module):
    """One head of the distillation [author code].

    Its layers are ReLU, average pool, 1x1 convolution to 128 channels, BN, ReLU, 2x2 convolution to
    768, BN, ReLU, mean over the image, linear. The BatchNorms have no affine.

    Args:
        channels: Channels of the features.
        classes: Number of classes K.
        window: Side of the pooling window, of stride 2. The windows are made for images of 32x32.
            Smaller features are pooled as a whole, then padded to 2x2.
    """

    def __init__(self, channels: int, classes: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.conv1 = nn.Conv2d(channels, 128, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(128, affine=False)
        self.conv2 = nn.Conv2d(128, 768, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(768, affine=False)
        self.classifier = nn.Linear(768, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, (B, K), for features, (B, C, H, W)."""
        x = F.avg_pool2d(
            F.relu(features), [min(self.window, side) for side in features.shape[2:]], 2
        )
        x = F.relu(self.bn1(self.conv1(x)))
        height, width = x.shape[2:]
        x = F.pad(x, (0, max(2 - width, 0), 0, max(2 - height, 0)))
        logits: Tensor = self.classifier(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))
        return logits


class Heads(nn.Module):
    """The two heads, which both networks share, and the ensemble of three logits.

    Args:
        channels: Channels of the features behind the first and the second stage.
        classes: Number of classes K.
        windows: Side of the pooling window of each head.
        frozen: Whether the heads keep their random initial weights.
        learned: Whether the weights of the ensemble are trained. They are ``softmax(r)``, with
            ``r = rand(3) / 3`` at the start. If not, each is 1/3.
        summed: Whether the weighted logits are added. If not, they are concatenated along the
            batch.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        windows: Sequence[int],
        frozen: bool,
        learned: bool,
        summed: bool,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Head(width, classes, window) for width, window in zip(channels, windows, strict=True)
        )
        self.stages.requires_grad_(not frozen)
        self.summed = summed
        self.ensemble = nn.Parameter(torch.empty(3), requires_grad=learned)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights of the ensemble anew. The modules of the heads reset themselves."""
        if self.ensemble.requires_grad:
            self.ensemble.uniform_(0, 1 / 3)
        else:
            self.ensemble.fill_(1 / 3)

    def forward(self, output: Output) -> Tensor:
        """Return the ensemble of a network's logits, in float32 or wider.

        Args:
            output: The output of a pass, with its features.

        Returns:
            (3B, K), or (B, K) where the logits are added.
        """
        heads = [head(features) for head, features in zip(self.stages, output.features)]
        wide = torch.promote_types(output.logits.dtype, torch.float32)
        logits = torch.stack([each.to(wide) for each in (*heads, output.logits)])
        weighted = logits * self.ensemble.softmax(0)[:, None, None]
        return weighted.sum(0) if self.summed else weighted.flatten(0, 1)


def soft_kl(tau: float, mean: str) -> Distance:
    """Return the distance ``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))``.

    Args:
        tau: Temperature.
        mean: "batch" is a mean over the rows. "all" is a mean over rows and classes, which is K
            times smaller. The released code calls torch's KLDivLoss in this way.
    """

    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        log_q, log_p = (student / tau).log_softmax(1), (teacher / tau).log_softmax(1)
        # torch's reduction "mean" warns that it will become "batchmean", so it is not used.
        divergence = tau**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        return divergence / student.shape[1] if mean == "all" else divergence

    return distance


def smooth_l1(tau: float, mean: str) -> Distance:
    """Return the distance ``tau^2 * SmoothL1(student, teacher)``, a mean over rows and classes.

    The logits are not divided by ``tau``, and ``mean`` has no effect.
    """
    return lambda student, teacher: tau**2 * F.smooth_l1_loss(student, teacher)


DISTANCES: dict[str, Callable[[float, str], Distance]] = {"kl": soft_kl, "smooth_l1": smooth_l1}
