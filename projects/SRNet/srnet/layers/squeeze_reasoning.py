"""Squeeze Reasoning (SR): global context from a graph over groups of channels.

Li et al., Towards Efficient Scene Understanding via Squeeze Reasoning, IEEE TIP 2021. Pure PyTorch.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from .node_reasoning import REASONINGS, GraphReasoning
from .plain import is_plain_pointwise, is_plain_tensor, is_transformed
from .precision import mean_over_positions, narrow_like, no_autocast, widen
from .squeeze_autograd import (
    Reconstruct,
    ReconstructDense,
    Squeeze,
    SqueezeDense,
    cast_for_autocast,
    keeps_graph,
    saves_enough,
    second_moments,
    takes_dense,
)

SQUEEZES = ("gap", "ghp")

# torch.fx records each as one operation: they look at the precision of their inputs.
torch.fx.wrap("mean_over_positions")
torch.fx.wrap("narrow_like")


class SqueezeReasoning(nn.Module):
    """Squeeze a map into a vector, reason over its groups of channels, scale the map with them.

    Eq. 7: ``y = W_R (b * g) + x`` with ``b = W_b x`` and ``g`` the reasoned vector of section
    III-B. All three convolutions are 1x1 without bias, and nothing stands between ``W_R`` and the
    sum. ``W_R`` starts at zero, so a fresh module is the identity and a model that gets one keeps
    its predictions until it is trained.

    Training keeps no map for the backward pass but ``x`` and ``y`` (see `squeeze_autograd.py`):
    19.93 MB at 512 channels and 96 x 96, where the paper has 110.75 MB (Table IV). On a GPU that
    holds for maps of 64 MiB and more; smaller ones are left to autograd, which is faster there.

    Args:
        channels: C, the channels of the map.
        reduction: P = C / reduction channels are squeezed and scaled.
        num_nodes: K, the nodes of the graph; a node has d = P / K channels.
        squeeze: ``"gap"``, the mean of ``b`` over the positions, or ``"ghp"`` (Eq. 4), the mean of
            ``b * c`` with ``c = W_c x``. Eq. 4 sums; the mean differs by 1 / (H W) and stays valid
            from training crops to full images.
        reasoning: ``"gcn"`` (Eq. 5), ``"sa"`` (Eq. 6), ``"fc"`` (as in SE) or ``"none"``: the rows
            of Table III.
        norm: makes a norm of the node vector from P, for instance ``torch.nn.LayerNorm``; it runs
            on the (N, P) vector before the reasoning. The paper's equations have none, and so has
            the default.

    Shape:
        (N, C, H, W) -> (N, C, H, W), or (C, H, W) -> (C, H, W)

    Raises:
        ValueError: an argument is out of its range; the message names it and what is allowed.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        num_nodes: int = 16,
        squeeze: str = "ghp",
        reasoning: str = "gcn",
        norm: Callable[[int], nn.Module] | None = None,
    ):
        super().__init__()
        if reduction < 1 or channels % reduction:
            raise ValueError(f"reduction={reduction} must be a divisor of channels={channels}")
        reduced = channels // reduction
        _check_nodes(num_nodes, reduced, f"channels / reduction = {channels} / {reduction}")
        if squeeze not in SQUEEZES:
            raise ValueError(f"squeeze={squeeze!r} is unknown: choose one of {', '.join(SQUEEZES)}")
        if reasoning not in REASONINGS:
            raise ValueError(
                f"reasoning={reasoning!r} is unknown: choose one of {', '.join(REASONINGS)}"
            )
        self.channels = channels
        self.num_nodes = num_nodes
        self.squeeze = squeeze
        self.conv_b = nn.Conv2d(channels, reduced, 1, bias=False)
        self.conv_c = nn.Conv2d(channels, reduced, 1, bias=False) if squeeze == "ghp" else None
        self.norm = nn.Identity() if norm is None else norm(reduced)
        self.reasoning = REASONINGS[reasoning](num_nodes, reduced // num_nodes)
        self.conv_r = nn.Conv2d(reduced, channels, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the module the identity; the other weights keep PyTorch's own start."""
        nn.init.zeros_(self.conv_r.weight)

    def reason(self, vector: torch.Tensor) -> torch.Tensor:
        """Map the squeezed (..., P) vector to the (..., P) scales of Eq. 7."""
        nodes = self.norm(vector).unflatten(-1, (self.num_nodes, -1))
        return self.reasoning(nodes).flatten(-2)

    def scales(self, x: torch.Tensor) -> torch.Tensor:
        """The (N, P) scales of a (N, C, H, W) map, with no map formed where that can be.

        The mean of ``b`` is that of x times ``W_b``. The mean of ``b * c`` is the diagonal of
        ``W_b S W_c^T`` with the second moments S of the channels, which takes less than b and c
        where :meth:`uses_moments` says so. In half precision S would round too early.
        """
        precision = x
        x, weight_b = cast_for_autocast(x, self.conv_b.weight)
        weight_c = None if self.conv_c is None else self.conv_c.weight.to(weight_b.dtype)
        with no_autocast(x.device):
            if weight_c is None:
                vector = F.linear(mean_over_positions(x), widen(weight_b.flatten(1)))
            elif self.uses_moments() and x.dtype == widen(x).dtype:
                moments = second_moments(x)
                vector = (weight_b.flatten(1) @ moments * weight_c.flatten(1)).sum(2)
            else:
                b, c = F.conv2d(x, torch.cat([weight_b, weight_c])).chunk(2, dim=1)
                vector = mean_over_positions(b, c)
        return self.reason(narrow_like(vector, precision))

    def uses_moments(self) -> bool:
        """Whether 10 / 16 C^2 multiply-adds a position are fewer than the 2 C P of b and c."""
        return 5 * self.channels < 16 * self.conv_b.out_channels

    def is_plain(self) -> bool:
        """Whether its convolutions are as built, so that their weights say what they compute."""
        convolutions = (self.conv_b, self.conv_r, self.conv_c)
        return all(c is None or is_plain_pointwise(c) for c in convolutions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add global context to a (N, C, H, W) or (C, H, W) map."""
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript skips what stands under this
            if self._runs_lean(x):
                return self._forward_lean(x)
        b = self.conv_b(x)
        c = self.conv_c(x) if self.conv_c is not None else None
        scales = self.reason(narrow_like(mean_over_positions(b, c), x))
        return self.conv_r(b * scales[..., None, None].to(b.dtype)) + x

    def _runs_lean(self, x: torch.Tensor) -> bool:
        """Whether autograd records: plain operations alone, and no other way of differentiating."""
        return (
            keeps_graph()
            and is_plain_tensor(x)
            and x.dim() == 4
            and saves_enough(x)
            and self.is_plain()
            and not is_transformed(x, *self.parameters())
        )

    def _forward_lean(self, x: torch.Tensor) -> torch.Tensor:
        """The same, with x alone kept for the backward pass."""
        weights = [
            conv.weight for conv in (self.conv_b, self.conv_r, self.conv_c) if conv is not None
        ]
        narrow, weight_b, weight_r, *rest = cast_for_autocast(x, *weights)
        if takes_dense(narrow, self.conv_b.out_channels, is_ghp=bool(rest)):
            return self._forward_dense(narrow, weight_b, weight_r, *rest)
        weight_c = rest[0] if rest else None
        vector, b, both = Squeeze.apply(narrow, weight_b, weight_c)
        scales = self.reason(narrow_like(vector, x)).to(b.dtype)
        return Reconstruct.apply(b, both, scales, weight_r, narrow, weight_b, weight_c) + x

    def _forward_dense(
        self,
        x: torch.Tensor,
        weight_b: torch.Tensor,
        weight_r: torch.Tensor,
        weight_c: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The same by ``y = (I + W_R diag(g) W_b) x``, with no map of b or c."""
        weight_b, weight_r = weight_b.flatten(1), weight_r.flatten(1)
        if weight_c is None:
            with no_autocast(x.device):
                vector = F.linear(mean_over_positions(x), weight_b)
        else:
            vector, x = SqueezeDense.apply(x, weight_b, weight_c.flatten(1))
        scales = self.reason(vector).to(x.dtype)
        return ReconstructDense.apply(x, scales, weight_b, weight_r)

    def extra_repr(self) -> str:
        """Say what the submodules do not show."""
        return f"channels={self.channels}, num_nodes={self.num_nodes}, squeeze={self.squeeze}"


class SqueezeReasoningGate(nn.Module):
    """SR for classification (section IV-E): a gate on a block's channels, where SE would stand.

    Global average pooling, Eq. 5 over K nodes of C / K channels with a sigmoid for its activation
    (a ReLU under the sigmoid would keep every gate above one half), and scaling of the channels: K
    x K + d x d weights a block.

    Args:
        channels: C, the channels of the block's output.
        num_nodes: K.

    Shape:
        (N, C, H, W) -> (N, C, H, W), or (C, H, W) -> (C, H, W)

    Raises:
        ValueError: ``num_nodes`` does not divide ``channels``.
    """

    def __init__(self, channels: int, *, num_nodes: int = 16):
        super().__init__()
        _check_nodes(num_nodes, channels, f"channels = {channels}")
        self.num_nodes = num_nodes
        self.reasoning = GraphReasoning(num_nodes, channels // num_nodes, activation=nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels of a (N, C, H, W) or (C, H, W) map."""
        vector = narrow_like(mean_over_positions(x), x)
        scales = self.reasoning(vector.unflatten(-1, (self.num_nodes, -1))).flatten(-2)
        return x * scales[..., None, None].to(x.dtype)


def _check_nodes(num_nodes: int, channels: int, what: str) -> None:
    if num_nodes < 1 or channels % num_nodes:
        raise ValueError(f"num_nodes={num_nodes} must be a divisor of {what}")
