"""The packages, read off the tree, as pyproject.toml cannot: the checkout itself is the package `uprank`."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOMS = ("configs", "data", "model", "eval", "train", "publish")
FOLDERS = find_packages(include=[*ROOMS, *(f"{room}.*" for room in ROOMS)])


class BuildWithoutSetup(build_py):
    """Leave this file out of the wheel: it lies in the folder of the package."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return (package, module, file) for the modules of a package."""
        modules = super().find_package_modules(package, package_dir)
        return [entry for entry in modules if (package, entry[1]) != ("uprank", "setup")]


setup(
    packages=["uprank", *(f"uprank.{folder}" for folder in FOLDERS)],
    cmdclass={"build_py": BuildWithoutSetup},
)
