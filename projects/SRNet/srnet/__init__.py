"""SRNet: Squeeze Reasoning (Li et al., IEEE TIP 2021) as a Detectron2 project."""

__version__ = "0.1.0"
