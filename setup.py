"""Packaging for instrument_mtl; every field is read from settings.ini, so that there is one place to edit."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
readme = here / "README.md"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license="Apache-2.0",
    keywords=cfg["keywords"],
    python_requires=f">={cfg['min_python']}",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
    ],
    # data/ holds what people edit (taxonomy, source tables, the shipped model); installed it is instrument_mtl.data
    packages=["instrument_mtl", "instrument_mtl.data"],
    package_dir={"instrument_mtl.data": "data"},
    package_data={"instrument_mtl.data": ["*.yaml", "*.csv", "*.md", "models/*"]},
    install_requires=cfg["requirements"].split(),
    extras_require={extra: cfg[f"{key}_requirements"].split() for extra, key in dict(dev="dev", psds="psds", encoders="encoder", onnx="onnx").items()},
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
)
