"""The official evaluation of Cityscapes' instances, without files in the working directory."""

import copy
import glob
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.evaluation import CityscapesInstanceEvaluator
from detectron2.utils import comm

from srnet.data.datasets.cityscapes_scripts import provide_cityscapesscripts


class CityscapesInstances(CityscapesInstanceEvaluator):
    """Detectron2's evaluator, with cityscapesscripts called step by step.

    `evaluateImgLists` of cityscapesscripts (2.3.0), which Detectron2 (0.6) calls, writes
    `matches.json` into the working directory whatever its arguments are. So :meth:`evaluate` calls
    the functions that it consists of. The longest, the matching, looks at one image at a time:
    each process matches a part of the images.

    Detectron2's works on one machine only. Here each machine writes its predictions into a
    temporary folder of its own, and receives the files of the others.

    Args:
        dataset_name: a registered dataset with the metadata `thing_classes` and `gt_dir`.
        allow_missing: leave out images without a prediction; they are an error otherwise.

    Raises:
        FileNotFoundError: `gt_dir` has no `instanceIds` images.
    """

    def __init__(self, dataset_name: str, allow_missing: bool = False):
        provide_cityscapesscripts()
        super().__init__(dataset_name)
        self._allow_missing = allow_missing
        folder = MetadataCatalog.get(dataset_name).gt_dir
        self._targets = sorted(glob.glob(os.path.join(folder, "*", "*_gtFine_instanceIds.png")))
        if not self._targets:
            raise FileNotFoundError(
                f"{folder} has no CITY/*_gtFine_instanceIds.png, and the official evaluation needs "
                "them: unzip gtFine_trainvaltest.zip again"
            )

    def reset(self) -> None:
        """Make the folder of this machine."""
        machine = comm.get_rank() // comm.get_local_size()
        self._working_dir = tempfile.TemporaryDirectory(prefix="cityscapes_eval_")
        folders = comm.all_gather((machine, self._working_dir.name))
        self._temp_dir = next(folder for owner, folder in folders if owner == machine)
        if self._temp_dir != self._working_dir.name:
            self._working_dir.cleanup()

    def _share_files(self) -> None:
        """Bring the predictions of all machines into the folder of each."""
        comm.synchronize()  # all files are written
        if comm.get_local_size() == comm.get_world_size():
            return
        files: dict[str, bytes] = {}
        writes = comm.get_local_rank() == 0
        if writes:
            files = {path.name: path.read_bytes() for path in Path(self._temp_dir).iterdir()}
        received = comm.all_gather(files)
        if writes:
            for name, content in (item for part in received for item in part.items()):
                Path(self._temp_dir, name).write_bytes(content)
        comm.synchronize()

    def evaluate(self) -> OrderedDict | None:
        """Return {"segm": {"AP", "AP50"}} in percent on the main process, None on the others."""
        self._share_files()
        import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as official

        arguments = copy.copy(official.args)
        arguments.predictionPath, arguments.predictionWalk = os.path.abspath(self._temp_dir), None
        arguments.gtInstancesFile = os.path.join(
            self._temp_dir, f"gtInstances{comm.get_rank()}.json"
        )
        arguments.JSONOutput = arguments.colorized = False
        arguments.quiet = True
        try:
            targets = self._targets
            if self._allow_missing:
                targets = [path for path in targets if os.path.isfile(self._prediction(path))]
            share = targets[comm.get_rank() :: comm.get_world_size()]
            predictions = [official.getPrediction(path, arguments) for path in share]
            official.setInstanceLabels(arguments)
            truth = official.getGtInstances(share, arguments)
            parts = comm.gather(official.matchGtWithPreds(predictions, share, truth, arguments))
            if not comm.is_main_process():
                return None
            found = {path: match for part in parts for path, match in part.items()}
            # In the order of one process, on which sums and equal scores depend.
            matches = {path: found[path] for path in map(os.path.abspath, targets)}
            averages = official.computeAverages(
                official.evaluateMatches(matches, arguments), arguments
            )
        except SystemExit as error:  # how cityscapesscripts reports an error it has printed
            raise RuntimeError(
                "cityscapesscripts stopped; its message is on standard output"
            ) from error
        finally:
            self._working_dir.cleanup()
        official.printResults(averages, arguments)
        result = {"AP": averages["allAp"] * 100, "AP50": averages["allAp50%"] * 100}
        return OrderedDict(segm=result)

    def _prediction(self, target: str) -> str:
        """The file that `process` writes for the image of a target."""
        stem = os.path.basename(target).removesuffix("_gtFine_instanceIds.png")
        return os.path.join(self._temp_dir, f"{stem}_leftImg8bit_pred.txt")
