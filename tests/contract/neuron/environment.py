"""An environment with an optimum-neuron above the CPU double: ``python environment.py TARGET VERSION``.

Its own packages come first, then this checkout and the double, then those of the Python that runs this. In it
the machine seems to have a device; with ``NEURON_CPU_DOUBLE_INSTANCE=`` it has a compiler only.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

_HERE = Path(__file__).resolve().parent
#: Without dependencies: what the double stands for is not to be had, and the rest is there.
_PACKAGES = {
    "0.4.1": ["optimum-neuron==0.4.1", "optimum==1.24.0"],
    "0.4.5": ["optimum-neuron==0.4.5", "optimum==2.0.0", "transformers==4.57.6", "tokenizers==0.22.1"],
}


def make(target: Path, version: str) -> None:
    """Make or mend the environment."""
    subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
    pip = [str(target / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, *_PACKAGES[version]], check=True)
    (packages,) = target.glob("lib/python3.*/site-packages")
    # accelerate would believe a double of torch_xla, but for its own switch; and tests ask no hub.
    defaults = {"NEURON_CPU_DOUBLE_INSTANCE": "inf2.xlarge", "USE_TORCH_XLA": "0", "HF_HUB_OFFLINE": "1"}
    lines = [str(_HERE.parents[2]), str(_HERE / "double"), sysconfig.get_path("purelib")]
    lines += [f"import os; os.environ.setdefault({name!r}, {value!r})" for name, value in defaults.items()]
    (packages / "inf2kit-tests.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2])
