"""Recurrent criss-cross attention of CCNet, RCCA (Huang et al., ICCV 2019)."""

import torch
from torch import nn

from ..channels import check_channels
from ..initialization import zero_parameters
from ..precision import wide_matmul


class CrissCrossAttention(nn.Module):
    """Attend from each position to the H + W - 1 positions of its row and its column.

    ``y_u = x_u + W sum_i softmax_i(q_u^T k_i) v_i`` over the positions i on the cross of u (Eq. 1
    and 2 there). Affinities are kept for the crosses alone, H W (H + W) numbers a map.

    The published module has C / 8 channels in queries and keys, C in values, and in the place of
    ``W`` a learned number that starts at zero. Table IV's 0.53 M parameters are the non-local
    block's: C / 2 channels in all three and a 1x1 convolution ``W``, which starts at zero here.
    That is the default; ``key_channels=channels // 8, value_channels=channels`` is CCNet's own.

    Args:
        channels: C, the channels of the map.
        key_channels: of queries and keys; C / 2 by default.
        value_channels: of values; C / 2 by default. With C there is no ``W`` but a number.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: a number of channels is not positive.
    """

    def __init__(
        self, channels: int, *, key_channels: int | None = None, value_channels: int | None = None
    ):
        super().__init__()
        check_channels(channels)
        key_channels = channels // 2 if key_channels is None else key_channels
        value_channels = channels // 2 if value_channels is None else value_channels
        if key_channels < 1 or value_channels < 1:
            raise ValueError(
                f"key_channels={key_channels} and value_channels={value_channels} must be at least "
                f"1; they are half of channels={channels} by default"
            )
        self.query = nn.Conv2d(channels, key_channels, 1)
        self.key = nn.Conv2d(channels, key_channels, 1)
        self.value = nn.Conv2d(channels, value_channels, 1)
        self.projection: nn.Conv2d | None = None
        self.gamma: nn.Parameter | None = None
        if value_channels == channels:
            self.gamma = nn.Parameter(torch.empty(1))
        else:
            self.projection = nn.Conv2d(value_channels, channels, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the module the identity; the other weights keep PyTorch's own start."""
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)
        if self.projection is not None:
            zero_parameters(self.projection)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the attended values (N, value_channels, H, W)."""
        height = x.shape[2]
        query, key, value = self.query(x), self.key(x), self.value(x)
        # (N, H, W, H): for each position, its dot products with the positions of its column.
        column = wide_matmul(query.permute(0, 3, 2, 1), key.permute(0, 3, 1, 2)).transpose(1, 2)
        # (N, H, W, W): the same with the positions of its row.
        row = wide_matmul(query.permute(0, 2, 3, 1), key.permute(0, 2, 1, 3))
        # Row and column meet in the position itself, which counts once.
        itself = torch.eye(height, dtype=torch.bool, device=x.device).unsqueeze(1)
        column = column.masked_fill(itself, float("-inf"))
        weights = torch.cat([column, row], dim=3).softmax(dim=3).to(value.dtype)
        of_column, of_row = weights[..., :height], weights[..., height:]
        from_column = torch.matmul(of_column.transpose(1, 2), value.permute(0, 3, 2, 1))
        from_row = torch.matmul(of_row, value.permute(0, 2, 3, 1))
        return from_column.permute(0, 3, 2, 1) + from_row.permute(0, 3, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the attended values to a (N, C, H, W) map."""
        attended = self.attend(x)
        if self.gamma is not None:
            attended = self.gamma * attended
        if self.projection is not None:
            attended = self.projection(attended)
        return x + attended


class RecurrentCrissCrossAttention(CrissCrossAttention):
    """Criss-cross attention applied several times with the same weights.

    After two passes every position has heard from every other. Two passes at 512 channels are
    11.48 GFLOPs (Table IV: 11.55 G).

    Args:
        channels: C, the channels of the map.
        recurrence: the passes, 2 in the paper.
        key_channels: as in :class:`CrissCrossAttention`.
        value_channels: as in :class:`CrissCrossAttention`.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: a number of channels or ``recurrence`` is not positive.
    """

    def __init__(
        self,
        channels: int,
        *,
        recurrence: int = 2,
        key_channels: int | None = None,
        value_channels: int | None = None,
    ):
        super().__init__(channels, key_channels=key_channels, value_channels=value_channels)
        if recurrence < 1:
            raise ValueError(f"recurrence={recurrence} must be at least 1")
        self.recurrence = recurrence

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what the passes attend to a (N, C, H, W) map."""
        for _ in range(self.recurrence):
            x = super().forward(x)
        return x
