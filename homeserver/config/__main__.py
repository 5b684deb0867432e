"""Prints config.yaml.example:  python -m homeserver.config > config.yaml.example"""

import sys

from homeserver.config import describe

sys.stdout.write(describe())
