"""Inference modes of the semantic models: whole images, sliding windows, several scales, flips."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode

from srnet.ranges import check_keys

from .semantic import resize_map


class SemanticInference:
    """Predict one image as a config's `TEST.SEM_SEG` says.

    A view is the image at one scale, or its mirror image. What is averaged is what mmsegmentation
    averages, so that results compare with what is published from there: the *logits* of the windows
    that overlap within a view, and the softmax *probabilities* of the views.

    Args:
        logits: maps normalised images (N, 3, h, w) to logits (N, classes, h, w).
        window: (height, width) of the sliding window in pixels; None for the whole image.
        stride: (vertical, horizontal) step of the window in pixels; the overlap is what the window
            exceeds it by.
        scales: factors the image is resized by.
        flip: add the mirror image of each scale.
        max_batch_pixels: so many pixels of input go through the network at once at most, which
            bounds its memory; a window larger than that goes alone.

    Raises:
        ValueError: an argument is out of its range; the message names it.
    """

    def __init__(
        self,
        logits: Callable[[torch.Tensor], torch.Tensor],
        *,
        window: tuple[int, int] | None = None,
        stride: tuple[int, int] | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        max_batch_pixels: int = 2**22,
    ):
        self.window: tuple[int, int] | None = None
        self.stride: tuple[int, int] | None = None
        if window is not None:
            stride = stride or window
            for name, values in (("window", window), ("stride", stride)):
                if len(values) != 2 or min(values) < 1:
                    raise ValueError(f"{name}={values} must be two lengths of at least one pixel")
            if stride[0] > window[0] or stride[1] > window[1]:
                raise ValueError(f"stride={stride} leaves gaps between windows of {window}")
            self.window, self.stride = (window[0], window[1]), (stride[0], stride[1])
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales={scales} must be one or more factors above 0")
        if max_batch_pixels < 1:
            raise ValueError(f"max_batch_pixels={max_batch_pixels} must be at least 1")
        self.logits = logits
        self.scales = tuple(scales)
        self.flip = flip
        self.max_batch_pixels = max_batch_pixels

    @staticmethod
    def arguments(cfg: CfgNode) -> dict:
        """The arguments of the constructor, but for `logits`, that `TEST.SEM_SEG` stands for."""
        node = cfg.TEST.SEM_SEG
        check_keys(cfg, *(f"TEST.SEM_SEG.{key}" for key in node if key != "FLIP"))
        slide = node.MODE == "slide"
        return {
            "window": tuple(node.WINDOW) if slide else None,
            "stride": tuple(node.STRIDE) if slide else None,
            "scales": tuple(node.SCALES),
            "flip": node.FLIP,
            "max_batch_pixels": node.MAX_BATCH_PIXELS,
        }

    def __call__(
        self, image: torch.Tensor, size: tuple[int, int] | None = None, *, name: str = "an image"
    ) -> torch.Tensor:
        """Predict an image.

        Args:
            image: (3, H, W), normalised.
            size: (height, width) of the result, that of the image by default.
            name: what error messages call the image.

        Returns:
            (classes, height, width): logits where there is a single view, and otherwise the mean of
            the views' probabilities.

        Raises:
            RuntimeError: the memory does not suffice; the message names the keys that help.
        """
        height, width = image.shape[-2:]
        try:
            return self._predict(image, size or (height, width))
        except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU raises it plainly
            if not is_out_of_memory(error):
                raise
        # Out of the handler: there the error's traceback still holds the tensors.
        if self.window is None:
            advice = (
                "use sliding windows: TEST.SEM_SEG.MODE slide, with TEST.SEM_SEG.WINDOW and "
                "TEST.SEM_SEG.STRIDE"
            )
        else:
            advice = "lower TEST.SEM_SEG.MAX_BATCH_PIXELS or TEST.SEM_SEG.WINDOW"
        raise RuntimeError(
            f"out of memory: {name} of {height} x {width} pixels, at scale {max(self.scales)}, is "
            f"too large; {advice}"
        )

    def predict_batch(
        self,
        images: Sequence[torch.Tensor],
        sizes: Sequence[tuple[int, int]],
        names: Sequence[str],
    ) -> list[torch.Tensor]:
        """Predict several images; those of one size in batches, where each is a single view.

        Args:
            images: (3, H, W) each, normalised.
            sizes: (height, width) of each result.
            names: as for a single image.

        Returns:
            What each image gives alone; batches differ from that by rounding.
        """
        plain = self.window is None and self.scales == (1.0,) and not self.flip
        step = self.max_batch_pixels // max(1, images[0][0].numel()) if images else 0
        if len(images) == 1 or step < 2 or not plain or len({x.shape for x in images}) > 1:
            parts = zip(images, sizes, names, strict=True)
            return [self(image, size, name=name) for image, size, name in parts]
        found: list[torch.Tensor] = []
        with torch.no_grad():
            for first in range(0, len(images), step):
                logits = self.logits(torch.stack(list(images[first : first + step])))
                found += [
                    resize_map(row[None], size)[0]
                    for row, size in zip(logits, sizes[first : first + step], strict=True)
                ]
        return found

    @torch.no_grad()
    def _predict(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        views = self._predict_views(image, size)
        count = len(self.scales) * (1 + self.flip)
        if count == 1:
            return next(views)
        probabilities = (view.float().softmax(0) for view in views)
        return functools.reduce(torch.Tensor.add_, probabilities).div_(count)

    def _predict_views(self, image: torch.Tensor, size: tuple[int, int]) -> Iterator[torch.Tensor]:
        """The logits of one view after another, mirrored back and resized."""
        for scale in self.scales:
            views = self._views(image, scale)
            if self.window is None or self.stride is None:
                logits = self._whole(views)
            else:
                logits = self._slide(views, self.window, self.stride)
            for index in range(len(views)):
                view = logits[index : index + 1]
                yield resize_map(view.flip(-1) if index else view, size)[0]

    def _views(self, image: torch.Tensor, scale: float) -> torch.Tensor:
        """The image at a scale, and its mirror image: (1 or 2, 3, h, w)."""
        views = image[None]
        if scale != 1:
            height, width = (max(1, round(n * scale)) for n in image.shape[-2:])
            # Antialiased, as the images were that the network was trained on.
            views = F.interpolate(
                views, (height, width), mode="bilinear", align_corners=False, antialias=True
            )
        return torch.cat([views, views.flip(-1)]) if self.flip else views

    def _whole(self, views: torch.Tensor) -> torch.Tensor:
        if views[0, 0].numel() * len(views) <= self.max_batch_pixels:
            return self.logits(views)
        return torch.cat([self.logits(view[None]) for view in views])

    def _slide(
        self, views: torch.Tensor, window: tuple[int, int], stride: tuple[int, int]
    ) -> torch.Tensor:
        """Logits of views (N, 3, h, w), the mean over the windows: (N, classes, h, w)."""
        height, width = views.shape[-2:]
        window_height, window_width = window
        # Zero is the mean color.
        views = F.pad(views, (0, max(0, window_width - width), 0, max(0, window_height - height)))
        rows = window_starts(views.shape[-2], window_height, stride[0])
        columns = window_starts(views.shape[-1], window_width, stride[1])
        places = [(n, y, x) for n in range(len(views)) for y in rows for x in columns]
        step = max(1, self.max_batch_pixels // (window_height * window_width))
        total = torch.empty(0)
        for first in range(0, len(places), step):
            batch = places[first : first + step]
            crops = [views[n, :, y : y + window_height, x : x + window_width] for n, y, x in batch]
            logits = self.logits(torch.stack(crops))
            if first == 0:
                # Half precision would round away what many windows add up.
                dtype = torch.promote_types(logits.dtype, torch.float32)
                total = logits.new_zeros(
                    (len(views), logits.shape[1], *views.shape[-2:]), dtype=dtype
                )
            for (n, y, x), crop in zip(batch, logits, strict=True):
                total[n, :, y : y + window_height, x : x + window_width] += crop
        # Windows stand on a grid, so how many cover a pixel is a product of one number a row and
        # one a column.
        total /= _coverage(total, rows, window_height, views.shape[-2])[:, None]
        total /= _coverage(total, columns, window_width, views.shape[-1])
        return total[..., :height, :width]


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows over one axis; the last window ends where the image does."""
    if length <= window:
        return [0]
    count = math.ceil((length - window) / stride)
    return [min(i * stride, length - window) for i in range(count + 1)]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of PyTorch's says that a GPU's or the CPU's memory does not suffice."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error).lower()


def _coverage(like: torch.Tensor, starts: list[int], window: int, length: int) -> torch.Tensor:
    counts = torch.zeros(length, dtype=like.dtype, device=like.device)
    for start in starts:
        counts[start : start + window] += 1
    return counts
