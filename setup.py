"""Package SRNet; the configs at the root travel inside the package, as Detectron2's do."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGES = ROOT / "projects" / "SRNet"


def ship_configs() -> list[str]:
    """Link, or copy where links fail, configs/ into srnet.model_zoo; return the files' patterns."""
    source, destination = ROOT / "configs", PACKAGES / "srnet" / "model_zoo" / "configs"
    if source.exists():  # an sdist holds the copy only
        if destination.is_symlink():
            destination.unlink()
        elif destination.exists():
            shutil.rmtree(destination)
        try:
            destination.symlink_to(Path("../../../..") / "configs")
        except OSError:
            shutil.copytree(source, destination)
    return ["configs/*.yaml", "configs/*/*.yaml"]


version = re.search(r'__version__ = "(.+)"', (PACKAGES / "srnet" / "__init__.py").read_text())[1]

setup(
    name="srnet",
    version=version,
    description="Squeeze Reasoning for scene understanding, as a Detectron2 project",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    package_dir={"": "projects/SRNet"},
    packages=find_packages(PACKAGES),
    package_data={"srnet.model_zoo": ship_configs(), "srnet.data": ["imagenet_synsets.txt"]},
    python_requires=">=3.10",
    # Detectron2 has no release on the package index; INSTALL.md says how to get it.
    install_requires=[
        "torch>=2.7",
        "torchvision",
        "numpy",
        "opencv-python-headless",
        "pillow",
        "pycocotools",
        "yacs",
        "fvcore",
        "tabulate",
        "matplotlib",
        "tensorboard",
    ],
    extras_require={
        "eval": ["panopticapi-lite", "cityscapesscripts", "shapely"],
        "dev": ["pytest", "ruff"],
    },
)
