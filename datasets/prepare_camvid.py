#!/usr/bin/env python3
"""Runs `srnet prepare camvid`; --help says more."""

from srnet.data.prepare import camvid
from srnet.data.prepare.conversion import run_script

if __name__ == "__main__":
    run_script(camvid)
