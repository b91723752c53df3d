"""Introspective distillation (CDARTS, arXiv 2006.10724): what two networks of one image say at three depths, and how far they are apart.

Heads on the features of the first two stages and a network's own classifier are three answers; a learned weight for each makes them one
ensemble. B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.arch.passes import Output

Distance = Callable[[Tensor, Tensor], Tensor]
"""answers of the student and of the teacher, (3B, K) or (B, K) -> scalar."""


class Head(nn.Module):
    """ReLU, average pool, 1x1 to 128, BN, ReLU, 2x2 to 768, BN, ReLU, mean, linear; BatchNorms without affine [author code].

    ``window``: of the pool, of stride 2. An image smaller than the windows (they are made for 32x32) is pooled whole, and padded to 2x2.
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
        """features (B, C, H, W) -> logits (B, K)"""
        x = F.avg_pool2d(
            F.relu(features), [min(self.window, side) for side in features.shape[2:]], 2
        )
        x = F.relu(self.bn1(self.conv1(x)))
        height, width = x.shape[2:]
        x = F.pad(x, (0, max(2 - width, 0), 0, max(2 - height, 0)))
        return self.classifier(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))


class Heads(nn.Module):
    """The two heads, which both networks share, and the ensemble of three answers.

    ``windows``: of the heads' pools. ``frozen``: heads that stay as they were drawn. ``learned``: weights ``softmax(r)`` with
    ``r = rand(3) / 3`` trained, else 1/3 each. ``summed``: the weighted answers are added, else they stand behind each other in the batch.
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
            Head(own, classes, window) for own, window in zip(channels, windows, strict=True)
        )
        self.stages.requires_grad_(not frozen)
        self.summed = summed
        self.ensemble = nn.Parameter(torch.empty(3), requires_grad=learned)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Of the ensemble; the heads reset their own."""
        if self.ensemble.requires_grad:
            self.ensemble.uniform_(0, 1 / 3)
        else:
            self.ensemble.fill_(1 / 3)

    def forward(self, output: Output) -> Tensor:
        """Output of a network -> its answer, (3B, K), or (B, K) where they are summed; float32 at least."""
        logits = [head(features) for head, features in zip(self.stages, output.features)] + [
            output.logits
        ]
        wide = torch.promote_types(output.logits.dtype, torch.float32)
        answers = (
            torch.stack([one.to(wide) for one in logits]) * self.ensemble.softmax(0)[:, None, None]
        )
        return answers.sum(0) if self.summed else answers.flatten(0, 1)


def soft_kl(tau: float, mean: str) -> Distance:
    """``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))``. ``mean`` over the rows ("batch"), or over rows and classes ("all":
    torch's KLDivLoss as the released code calls it, K times less)."""

    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        log_q, log_p = (student / tau).log_softmax(1), (teacher / tau).log_softmax(1)
        # not torch's "mean", which warns that it will become "batchmean"
        divergence = tau**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        return divergence / student.shape[1] if mean == "all" else divergence

    return distance


def smooth_l1(tau: float, mean: str) -> Distance:
    """``tau^2 * SmoothL1(student, teacher)`` of the answers as they are, mean over rows and classes; ``mean`` does not matter."""
    return lambda student, teacher: tau**2 * F.smooth_l1_loss(student, teacher)


DISTANCES: dict[str, Callable[[float, str], Distance]] = {"kl": soft_kl, "smooth_l1": smooth_l1}
