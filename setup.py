"""The packages, read off the tree, as pyproject.toml cannot: the checkout itself is the package `uprank`."""

from setuptools import find_packages, setup

ROOMS = ("configs", "data", "model", "eval", "train", "publish")
FOLDERS = find_packages(include=[*ROOMS, *(f"{room}.*" for room in ROOMS)])

setup(packages=["uprank", *(f"uprank.{folder}" for folder in FOLDERS)])
