"""The models of the four families as modules of one image tensor.

Normalisation is in the graph: it takes the values 0 to 255 of the channels that `INPUT.FORMAT`
names, as float32.
"""

import torch
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNN, PanopticFPN
from torch import nn

from srnet.modeling.meta_arch import ImageClassifier, SRSemanticSegmentor

from .graph import BATCHED, SINGLE, ExportError, Graph

FAMILIES = (SRSemanticSegmentor, ImageClassifier, GeneralizedRCNN, PanopticFPN)
INSTANCES = {
    "boxes": "(detections, 4): x0, y0, x1, y1 in pixels of the input",
    "scores": "(detections,): highest first",
    "classes": "(detections,): indices into thing_classes",
    "masks": "(detections, 28, 28): probabilities on a grid over each box",
}
SEM_SEG = "(classes, height, width): logits; class 0 stands for all things"


class ImageToLogits(nn.Module):
    """A semantic model or a classifier: images (N, 3, H, W), 0 to 255, to its logits.

    Args:
        model: has `logits`, `pixel_mean` and `pixel_std`.
    """

    def __init__(self, model: SRSemanticSegmentor | ImageClassifier):
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        """Normalise, and compute the logits."""
        model = self.model
        return (model.logits((image - model.pixel_mean) / model.pixel_std),)


def detect(model: GeneralizedRCNN, inputs: list[dict]) -> tuple[torch.Tensor, ...]:
    """The detections of one image (3, H, W), in the order of `INSTANCES`, and `sem_seg` logits."""
    found = model.inference(inputs, do_postprocess=False)
    instances, sem_seg = found if isinstance(found, tuple) else (found, None)
    (one,) = instances
    outputs = [one.pred_boxes.tensor, one.scores, one.pred_classes]
    if one.has("pred_masks"):
        outputs.append(one.pred_masks[:, 0])
    if sem_seg is not None:
        height, width = inputs[0]["image"].shape[-2:]
        outputs.append(sem_seg[0, :, :height, :width])
    return tuple(outputs)


def build_graph(model: nn.Module, image: torch.Tensor, *, dynamic: bool) -> Graph:
    """Wrap a model.

    Args:
        model: in eval mode.
        image: (3, H, W), 0 to 255.
        dynamic: as in :class:`Graph`.

    Raises:
        ExportError: a model of no family that is known here.
    """
    image = image.float()
    if type(model) not in FAMILIES:
        raise ExportError(
            f"MODEL.META_ARCHITECTURE={type(model).__name__} cannot be exported: allowed are "
            f"{', '.join(kind.__name__ for kind in FAMILIES)}"
        )
    if isinstance(model, GeneralizedRCNN):
        return _detector_graph(model, image, dynamic)
    assert isinstance(model, SRSemanticSegmentor | ImageClassifier)
    semantic = isinstance(model, SRSemanticSegmentor)
    axes = {0: "batch", 2: "height", 3: "width"} if semantic else {0: "batch"}
    return Graph(
        ImageToLogits(model).eval(),
        # torch.export takes a batch of one for the only size there is.
        image[None].repeat(2 if dynamic else 1, 1, 1, 1),
        BATCHED,
        {"logits": "(batch, classes, height, width)" if semantic else "(batch, classes)"},
        {"logits": axes if dynamic else {}},
        dynamic,
    )


def _detector_graph(model: GeneralizedRCNN, image: torch.Tensor, dynamic: bool) -> Graph:
    if model.proposal_generator is None:
        raise ExportError(
            "MODEL.LOAD_PROPOSALS: a detector without its own proposals cannot be exported"
        )
    adapter = TracingAdapter(model, [{"image": image}], detect).eval()
    outputs = dict(INSTANCES)
    if not getattr(model.roi_heads, "mask_on", False):
        del outputs["masks"]
    axes = {name: {0: "detections"} for name in outputs}
    if isinstance(model, PanopticFPN):
        outputs["sem_seg"] = SEM_SEG
        axes["sem_seg"] = {1: "height", 2: "width"} if dynamic else {}
    return Graph(adapter, image, SINGLE, outputs, axes, dynamic)
