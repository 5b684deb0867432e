"""The command, as `python -m homeserver.cli`."""

import sys

from homeserver.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
