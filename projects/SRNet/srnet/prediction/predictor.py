"""From one picture to the output of a model."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from PIL import Image

from srnet.checkpoint import load_trained_model
from srnet.data import ClassificationMapper, build_mapper
from srnet.data.read import read_rgb, to_rgb, upright
from srnet.model_zoo import default_model, get_cfg
from srnet.model_zoo.published import checkpoint_url, resolve_weights

from .classes import check_trained_classes, classes_of


class Predictor:
    """Predict single pictures with a trained model, of any family.

    Like Detectron2's DefaultPredictor it resizes the picture as the config says, and brings its
    channels into the order of `INPUT.FORMAT`. It also takes paths and PIL images, gives classifiers
    their centre crop, and refuses weights that are not the whole model's.

        predict = srnet.Predictor("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", weights="m.pth")
        labels = predict("street.jpg")["sem_seg"].argmax(0)

    Args:
        config: a config, its path, or a name of the model zoo; empty for the model zoo's default.
        weights: the checkpoint; empty for the published weights where the zoo has them, and for
            `MODEL.WEIGHTS` otherwise.
        opts: alternating keys and values that override the config.
        device: replaces `MODEL.DEVICE`.

    Attributes:
        cfg: the config.
        model: the model, in eval mode.
        classes: `Metadata` with the names, colours and category ids of its classes.

    Raises:
        FileNotFoundError: the config or the weights are missing.
        RuntimeError: the weights do not fit, or none are given.
        ValueError: the config is wrong, its model needs proposals, or the weights say that they are
            of other classes.
    """

    def __init__(
        self,
        config: CfgNode | str | os.PathLike = "",
        *,
        weights: str | os.PathLike = "",
        opts: Sequence = (),
        device: str = "",
    ):
        self.cfg = read_config(config, weights=weights, opts=opts, device=device)
        if self.cfg.MODEL.LOAD_PROPOSALS:
            raise ValueError(
                "MODEL.LOAD_PROPOSALS is True, and a picture has no proposals: choose a model that "
                "finds its own"
            )
        self.model = load_trained_model(self.cfg)
        self.classes = classes_of(self.cfg)
        check_trained_classes(self.cfg, self.classes)
        self._mapper: Any = build_mapper(self.cfg, is_train=False)

    def __call__(self, image: str | os.PathLike | np.ndarray | Image.Image) -> dict:
        """Predict one picture.

        Args:
            image: a path; a PIL image; or an array as OpenCV reads it: uint8, (H, W, 3) in BGR
                order, (H, W, 4) with an alpha channel, or (H, W) in grey.

        Returns:
            The model's output as Detectron2 defines it, on the device: "sem_seg" (classes, H, W),
            "instances", "panoptic_seg", or of classifiers "logits" (classes,).

        Raises:
            UnreadableImageError: the file does not decode.
            ValueError: the array is no picture.
            TypeError: it is none of these.
        """
        return self.predict([self.prepare(as_rgb(image))])[0]

    def prepare(self, image: Image.Image, name: str = "an image") -> dict:
        """Make a model's input of an RGB picture: resized, and in the order of `INPUT.FORMAT`.

        Args:
            image: an RGB picture.
            name: what error messages call it.
        """
        if isinstance(self._mapper, ClassificationMapper):
            pixels = self._mapper.transform(image)
            if self._mapper.image_format == "BGR":
                pixels = pixels.flip(0)
            return {"image": pixels, "file_name": name}
        array = np.asarray(image)
        if self.cfg.INPUT.FORMAT == "BGR":
            array = array[:, :, ::-1]
        augmented = T.AugInput(array)
        self._mapper.augmentations(augmented)
        # NumPy converts: in the reading threads PyTorch would start threads of its own.
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1), dtype=np.float32)
        size = {"height": image.height, "width": image.width}
        return {"image": torch.from_numpy(pixels), "file_name": name, **size}

    @torch.no_grad()
    def predict(self, inputs: list[dict]) -> list[dict]:
        """Predict prepared pictures in one batch.

        Args:
            inputs: what :meth:`prepare` returned. Pictures of one size give what they give alone;
                detectors pad others to the size of the largest.
        """
        return self.model(inputs)


def read_config(
    config: CfgNode | str | os.PathLike = "",
    *,
    weights: str | os.PathLike = "",
    opts: Sequence = (),
    device: str = "",
) -> CfgNode:
    """Read a config and find the weights for it; see :class:`Predictor` for the arguments.

    Raises:
        FileNotFoundError: no weights are published under the name of a ``srnet://`` place.
        ValueError: weights are given twice, or without a config.
    """
    chosen = "MODEL.WEIGHTS" in opts[::2]
    if chosen and weights:
        raise ValueError(f"the weights {weights} and MODEL.WEIGHTS are given: give one of them")
    words = [*opts, *(["MODEL.DEVICE", device] if device else [])]
    if isinstance(config, CfgNode):
        cfg = config.clone()
        cfg.defrost()
        cfg.merge_from_list(words)
    else:
        if not config and (weights or chosen):
            raise ValueError("weights are given without their config: name it, too")
        config = config or default_model()
        cfg = get_cfg(config, words)
        if not (weights or chosen):
            weights = checkpoint_url(str(config)) or ""
    if weights:
        cfg.MODEL.WEIGHTS = resolve_weights(os.path.expanduser(weights))
    return cfg


def set_confidence(cfg: CfgNode, score: float) -> CfgNode:
    """Let a model leave out instances below a score, by the keys that Detectron2's demo sets.

    Args:
        cfg: the config, which is changed and returned.
        score: from 0 to 1.
    """
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = score
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = score
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = score
    return cfg


def as_rgb(image: str | os.PathLike | np.ndarray | Image.Image) -> Image.Image:
    """A picture as 8-bit RGB; see :meth:`Predictor.__call__` for what is taken."""
    if isinstance(image, str | os.PathLike):
        return read_rgb(image)
    if isinstance(image, Image.Image):
        return to_rgb(upright(image), "the PIL image")
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"a {type(image).__name__} is no picture: give a path, an array or a PIL image"
        )
    grey, colour = image.ndim == 2, image.ndim == 3 and image.shape[2] in (3, 4)
    if image.dtype != np.uint8 or not (grey or colour) or not image.size:
        raise ValueError(
            f"an array {image.shape} of {image.dtype} is no picture: give uint8 of shape (H, W, 3) "
            "in BGR order, (H, W, 4) or (H, W)"
        )
    if grey:
        return Image.fromarray(image).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(image[:, :, 2::-1]))
