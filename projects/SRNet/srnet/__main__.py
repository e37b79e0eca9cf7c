"""``python -m srnet`` is the command `srnet`."""

import sys

from srnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
