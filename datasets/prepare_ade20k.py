#!/usr/bin/env python3
"""Runs `srnet prepare ade20k`; --help says more."""

from srnet.data.prepare import ade20k
from srnet.data.prepare.conversion import run_script

if __name__ == "__main__":
    run_script(ade20k)
