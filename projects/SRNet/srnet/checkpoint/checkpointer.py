"""Checkpoints that survive a kill, and that may come from a stranger."""

import logging
import os
import pickle
import re

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager

from .torchvision_names import has_torchvision_names, to_detectron2_names

# What Detectron2's zoo pickles: dicts of NumPy arrays and numbers.
_SAFE_GLOBALS = re.compile(
    r"(numpy(\._?core)?(\.multiarray|\.numeric)?\.(_reconstruct|ndarray|dtype|scalar|_frombuffer))"
    r"|collections\.OrderedDict|_codecs\.encode"
)


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if not _SAFE_GLOBALS.fullmatch(f"{module}.{name}"):
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module, name)


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with atomic saves, safe loads and a resume past broken files.

    * :meth:`save` writes beside the file and renames, so a kill leaves the last checkpoint whole.
    * `.pth` files are loaded with ``weights_only``. Detectron2's `.pkl` is a plain pickle, which
    can run code when it is
      loaded: it is read once by an unpickler that knows nothing but NumPy arrays, and refused where
          it holds more.
    * ResNet weights with torchvision's names are renamed to Detectron2's as they are loaded.
    * :meth:`resume_or_load` goes from the newest checkpoint to older ones until one loads.
    """

    def save(self, name: str, **kwargs) -> None:
        """Save the model and the checkpointables as `name`.pth in the save directory."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        try:
            torch.save(data, f"{path}.partial")
            os.replace(f"{path}.partial", path)
        except BaseException:
            if os.path.exists(f"{path}.partial"):
                os.remove(f"{path}.partial")
            raise
        self.tag_last_checkpoint(os.path.basename(path))

    def load(self, path: str, *args, **kwargs):
        """Load a checkpoint from a path or URL.

        Raises:
            RuntimeError: it cannot be fetched, read whole, or holds more than weights; the message
                names it.
        """
        try:
            return super().load(path, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise RuntimeError(
                f"{path} is damaged, or holds more than arrays and could run code: {error}"
            ) from error
        except (OSError, EOFError, RuntimeError, AssertionError) as error:
            if re.match(r"(https?|detectron2|catalog)://", path or ""):
                raise RuntimeError(
                    f"cannot fetch {path}: {error}. Where there is no network, download it "
                    'elsewhere and set MODEL.WEIGHTS to its path, or to "" for random weights.'
                ) from error
            raise RuntimeError(f"cannot load the checkpoint {path}: {error}") from error
        finally:
            self._parsed_url_during_load = None  # Detectron2 leaves it set when a load fails

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Load the newest whole checkpoint of the save directory if `resume`, or else `path`.

        Raises:
            RuntimeError: there are checkpoints to resume from, and none of them loads.
        """
        checkpoints = self.newest_first() if resume else []
        for checkpoint in checkpoints:
            try:
                return self.load(checkpoint)
            except RuntimeError as error:
                logging.getLogger(__name__).error("%s; trying the checkpoint before it", error)
        if checkpoints:
            raise RuntimeError(
                f"none of the {len(checkpoints)} checkpoints in {self.save_dir} can be loaded; "
                "remove them to start anew"
            )
        return self.load(path, checkpointables=[])

    def newest_first(self) -> list[str]:
        """The checkpoints of the save directory, the newest first."""
        paths = self.get_all_checkpoint_files() if os.path.isdir(self.save_dir) else []
        return sorted(paths, key=os.path.getmtime, reverse=True)

    def has_checkpoint(self) -> bool:
        """Whether the save directory holds a checkpoint, whole or not."""
        return bool(self.newest_first())

    def _load_file(self, filename: str) -> dict:
        if filename.endswith(".pkl"):
            with PathManager.open(filename, "rb") as f:
                _ArrayUnpickler(f, encoding="latin1").load()
        loaded = super()._load_file(filename)
        model_names = self.model.state_dict()
        if has_torchvision_names(loaded["model"]) and not has_torchvision_names(model_names):
            # The heuristics find the backbone within the model, as for Detectron2's own weights.
            loaded["model"] = to_detectron2_names(loaded["model"])
            loaded["matching_heuristics"] = True
        return loaded

    def _load_model(self, checkpoint: dict):
        incompatible = super()._load_model(checkpoint)
        if hasattr(self.model, "check_weights"):
            self.model.check_weights(incompatible)
        return incompatible

    def _torch_load(self, f: str) -> dict:
        with PathManager.open(f, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
