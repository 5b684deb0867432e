"""Here because pip takes a directory without setup.py or pyproject.toml for no Python project; setup.cfg says everything."""

from setuptools import setup

setup()
