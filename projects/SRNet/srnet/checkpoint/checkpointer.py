"""Checkpoints that survive a kill, and that may come from a stranger."""

import io
import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from .efficientnet_lite import convert_efficientnet_lite0, has_lite0_names
from .file_kinds import CheckpointError, check_is_file
from .files import is_pickle_of_arrays, read_file, replace_file, write_file
from .fit import Fit, check_finite, check_types, fit_of, identities, not_finite
from .places import Place, find_place
from .resume import LAST, Found, find_checkpoints
from .torchvision_names import has_torchvision_names, to_detectron2_names
from .wrappers import strip_prefixes, unwrap

logger = logging.getLogger(__name__)


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with atomic saves, checked and safe loads, and a careful resume.

    * :meth:`save` writes beside the file and renames, so an interrupted save never damages the last
      checkpoint.
    * `.pth` files are loaded with ``weights_only``, after the CRCs of their content. Detectron2's
      safetensors files are read by their library, after their hash. Detectron2's
      `.pkl` is a plain pickle, which can run code when it is loaded: it goes through an unpickler
      that knows nothing but NumPy arrays, and is refused where it holds more.
    * What others put around weights is unwrapped (:mod:`.wrappers`), and ResNet weights with
      torchvision's names are renamed to Detectron2's, as is the published EfficientNet-Lite0.
    * A place may be a file of an installed package and may end in a hash (:mod:`.places`).
    * :meth:`load` prints a table of what was loaded, is new, and is left over. A load that fails
      leaves model and checkpointables as they were.
    * :meth:`resume_or_load` goes from the last checkpoint to older ones until one loads.

    Args:
        model: the model.
        save_dir: the folder of the training.
        strict: True, for evaluation: weights must make the whole model, but for new context modules
            that are the identity. None, for the start of a training: at least one of them must
            be the model's. False: take what fits.
        save_to_disk: as in Detectron2: on the main process.
        **checkpointables: what else is saved and loaded, with `state_dict` and `load_state_dict`.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        strict: bool | None = None,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ):
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.strict = strict
        self._fit = Fit((), (), {}, ())
        self._path = ""
        self._place = Place("", None)
        self._written: list[str] = []

    def save(self, name: str, **kwargs: Any) -> None:
        """Save the model and the checkpointables as `name`.pth in the save directory.

        Raises:
            OSError: it cannot be written, as "No space left on device"; the message names the file,
                and an earlier one of that name is still whole.
        """
        if not self.save_dir:
            return
        path = os.path.join(self.save_dir, f"{name}.pth")
        if self.save_to_disk:
            data = {"model": self.model.state_dict()}
            data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
            data.update(kwargs)
            self.logger.info("Saving checkpoint to %s", path)
            write_file(data, path)
            self.tag_last_checkpoint(os.path.basename(path))
        self._note(path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint to `last_checkpoint`."""
        name = last_filename_basename.encode()
        replace_file(os.path.join(self.save_dir, LAST), lambda f: f.write(name))

    def written(self) -> list[str]:
        """The checkpoints that this run wrote or resumed from, the newest first.

        Those that an earlier run left in the folder are not among them, and neither are those with
        weights that are NaN or infinite, or files that were removed since.
        """
        return [path for path in reversed(self._written) if os.path.isfile(path)]

    def _note(self, path: str) -> None:
        self._written = [p for p in self._written if p != path]
        if not_finite(self.model.state_dict()) is None:
            self._written.append(path)

    def load(self, path: str, checkpointables: Collection[str] | None = None) -> dict:
        """Load a checkpoint from a path, a URL or an installed package.

        Args:
            path: as :func:`.find_place` reads it; nothing is loaded where it is empty.
            checkpointables: names of those to load, None for all.

        Returns:
            The other entries of the checkpoint.

        Raises:
            RuntimeError: it cannot be fetched or read whole, holds more than weights, or does not
                fit the model; the message names it.
        """
        path = self._path = os.fspath(path)
        names = self.checkpointables if checkpointables is None else checkpointables
        with self._unchanged_on_failure(names if path else None):
            try:
                self._place = find_place(path)
                if path and "://" not in self._place.path:
                    check_is_file(urlparse(self._place.path)._replace(query="").geturl())
                rest = super().load(self._place.path, checkpointables)
            except CheckpointError as error:
                raise CheckpointError(_with_path(path, str(error))) from error.__cause__
            except Exception as error:  # of the network, of PyTorch, of checkpointables
                raise RuntimeError(_explain(path, error)) from error
            finally:
                self._parsed_url_during_load = None  # Detectron2 leaves it set when a load fails
        if path:
            level = logging.WARNING if self._fit.new or self._fit.left_over else logging.INFO
            logger.log(level, "Weights of %s in the model:\n%s", path, self._fit.table())
        return rest

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Resume from a checkpoint of the save directory if `resume`, or else load `path`.

        :func:`.find_checkpoints` says in which order they are tried. Where there is none, the
        weights of `path` are loaded, and a line says so.

        Returns:
            The other entries of the checkpoint; "iteration" is among them only after a resume.

        Raises:
            RuntimeError: there are checkpoints to resume from, and none of them loads.
        """
        checkpoints = self._find_checkpoints() if resume else []
        reasons = []
        for checkpoint in checkpoints:
            reason, loaded = None, {}
            try:
                loaded = self._resume(checkpoint)
            except RuntimeError as error:
                reason = str(error)
            # All processes go on from the same one.
            reason = next((r for r in comm.all_gather(reason) if r is not None), None)
            if reason is None:
                self._note(checkpoint.path)
                return loaded
            reasons.append(reason)
            logger.error("%s; trying the checkpoint before it", reason)
        if reasons:
            raise RuntimeError(
                f"none of the {len(reasons)} checkpoints in {self.save_dir} can be loaded; remove "
                f"them to start anew. The first: {reasons[0]}"
            )
        if resume:
            start = f"MODEL.WEIGHTS {path}" if path else "random weights"
            logger.info(
                "no checkpoint to resume from in %s: starting from %s", self.save_dir, start
            )
        loaded = self.load(path, checkpointables=[])
        loaded.pop("iteration", None)
        return loaded

    def _find_checkpoints(self) -> list[Found]:
        checkpoints = find_checkpoints(self.save_dir)
        seen = comm.all_gather([os.path.basename(checkpoint.path) for checkpoint in checkpoints])
        for rank, names in enumerate(seen):
            if names != seen[0]:
                raise RuntimeError(
                    f"the processes see other checkpoints in {self.save_dir}, process 0 {seen[0]} "
                    f"and process {rank} {names}: OUTPUT_DIR must be on a file system they share"
                )
        return checkpoints

    def _resume(self, checkpoint: Found) -> dict:
        """Load a checkpoint of this training, whole."""
        checkpoint.check(self.checkpointables)
        with self._unchanged_on_failure(self.checkpointables):
            loaded = self.load(checkpoint.path)
            if self.strict is None:
                self._fit.check_complete(checkpoint.path)
        return loaded

    def newest_first(self) -> list[str]:
        """The checkpoints of the save directory, in the order of :func:`.find_checkpoints`."""
        try:
            return [checkpoint.path for checkpoint in find_checkpoints(self.save_dir)]
        except CheckpointError:  # the last one is missing, and there is no other
            return []

    def has_checkpoint(self) -> bool:
        """Whether the save directory holds a checkpoint to resume from, whole or not."""
        return bool(self.newest_first())

    @contextmanager
    def _unchanged_on_failure(self, checkpointables: Collection[str] | None) -> Iterator[None]:
        """Give the model and the checkpointables their state back if what is inside fails.

        Args:
            checkpointables: their names; None to keep nothing.
        """
        if checkpointables is None:
            yield
            return
        objects = {"model": self.model} | {k: self.checkpointables[k] for k in checkpointables}
        before = io.BytesIO()
        torch.save({name: obj.state_dict() for name, obj in objects.items()}, before)
        try:
            yield
        except BaseException:
            before.seek(0)
            states = torch.load(before, map_location="cpu", weights_only=True)
            for name, obj in objects.items():
                try:
                    obj.load_state_dict(states[name])
                except Exception:
                    logger.exception("%s did not take its old state back", name)
            raise

    def _load_file(self, filename: str) -> dict:
        self._place.check(filename)
        if is_pickle_of_arrays(filename):
            data = read_file(filename)
            zoo = isinstance(data, dict) and (
                "blobs" in data
                or "__author__" in data
                or not any(isinstance(value, dict) for value in data.values())
            )
            loaded = super()._load_file(filename) if zoo else unwrap(data, filename)
        elif filename.endswith(".pyth"):
            loaded = {**self._torch_load(filename), "matching_heuristics": True}
        elif filename.endswith(".pkl"):
            loaded = self._torch_load(filename)
        else:
            loaded = super()._load_file(filename)
        if loaded.get("metadata", {}).get("matching_heuristics") == "True":  # of safetensors
            loaded["matching_heuristics"] = True
        names = self.model.state_dict()
        loaded["model"] = strip_prefixes(unwrap(loaded["model"], filename)["model"], names)
        if has_torchvision_names(loaded["model"]) and not has_torchvision_names(names):
            # The heuristics find the backbone within the model, as for Detectron2's own weights.
            loaded["model"] = to_detectron2_names(loaded["model"])
            loaded["matching_heuristics"] = True
        elif has_lite0_names(loaded["model"]):
            loaded["model"] = convert_efficientnet_lite0(loaded["model"])
            loaded["matching_heuristics"] = True
        return loaded

    def _torch_load(self, f: str) -> dict:
        return unwrap(read_file(f), f)

    def _load_model(self, checkpoint: dict) -> Any:
        check_types(self.model.state_dict(), checkpoint["model"], self._path)
        with _quiet("detectron2.checkpoint.c2_model_loading"):  # the table says what was matched
            incompatible = super()._load_model(checkpoint)
        self._fit = fit = fit_of(
            self.model,
            incompatible.missing_keys,
            incompatible.unexpected_keys,
            incompatible.incorrect_shapes,
        )
        if self.strict:
            fit.check_complete(self._path, allowed=identities(self.model, fit.new))
        elif self.strict is None:
            if hasattr(self.model, "check_weights"):
                self.model.check_weights(fit)
            fit.check_any(self._path)
        check_finite(self.model, self._path)
        return incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Nothing: :meth:`load` prints the table."""


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger silent."""
    other = logging.getLogger(name)
    before, other.disabled = other.disabled, True
    try:
        yield
    finally:
        other.disabled = before


def _with_path(path: str, text: str) -> str:
    """Put a URL before what is wrong with the file that it was kept in."""
    return text if path in text else f"{path}: {text}"


def _explain(path: str, error: Exception) -> str:
    if isinstance(error, OSError) and re.match(r"\w+://", path):
        return (
            f"cannot fetch {path}: {error}. Where there is no network, download it elsewhere and "
            'set MODEL.WEIGHTS to its path, or to "" for random weights.'
        )
    text = str(error).strip() or "no reason given"
    if not isinstance(error, RuntimeError):
        text = f"{type(error).__name__}: {text}"
    return f"cannot load the checkpoint {path}: {text}"
