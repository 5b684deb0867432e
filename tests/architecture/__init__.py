"""Tests about the code rather than of it: what keeps the project readable as it grows.

Which package may import which is not here: `make check` runs import-linter for that.
"""
