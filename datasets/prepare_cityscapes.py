#!/usr/bin/env python3
"""Runs `srnet prepare cityscapes`; --help says more."""

from srnet.data.prepare import cityscapes
from srnet.data.prepare.conversion import run_script

if __name__ == "__main__":
    run_script(cityscapes)
