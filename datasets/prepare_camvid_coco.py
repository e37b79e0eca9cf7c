#!/usr/bin/env python3
"""Runs `srnet prepare camvid_coco`; --help says more."""

from srnet.data.prepare import camvid_coco
from srnet.data.prepare.conversion import run_script

if __name__ == "__main__":
    run_script(camvid_coco)
