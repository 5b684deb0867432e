"""All of it stands in setup.cfg; this file is here because pip refuses a directory that has only that."""

from setuptools import setup

setup()
