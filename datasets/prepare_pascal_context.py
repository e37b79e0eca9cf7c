#!/usr/bin/env python3
"""Runs `srnet prepare pascal_context`; --help says more."""

from srnet.data.prepare import pascal_context
from srnet.data.prepare.conversion import run_script

if __name__ == "__main__":
    run_script(pascal_context)
