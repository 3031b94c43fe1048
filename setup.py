"""Puts the lessons and their tables into the wheel; everything else stands in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))
from xbl_kit.lessons import shipped  # noqa: E402


class WithLessons(build_py):
    """An editable install has none of its own: the command finds those of the repository."""

    def run(self):
        super().run()
        for name, path in {} if self.editable_mode else shipped(ROOT).items():
            target = Path(self.build_lib, "xbl_kit", "shipped", name)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": WithLessons})
