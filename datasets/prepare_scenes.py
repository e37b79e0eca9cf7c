#!/usr/bin/env python3
"""Runs `srnet prepare scenes`; --help says more."""

from srnet.data.prepare import scenes
from srnet.data.prepare.conversion import run_script

if __name__ == "__main__":
    run_script(scenes)
