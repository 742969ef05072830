"""Process 1 of a faithful container: the steps of the image's entry point.

This file is copied into the container. The container's Python, which has no inf2kit, runs it there.
"""

from __future__ import annotations

import subprocess


def main() -> None:
    """Start the monitor and the model server, then stay: the container outlives its model server."""
    subprocess.check_call(["/neuron-monitor.sh"])
    # Imported here because only the container has it, and it takes seconds.
    from sagemaker_huggingface_inference_toolkit import serving

    serving.main()
    subprocess.call(["/usr/bin/tail", "-f", "/dev/null"])


if __name__ == "__main__":
    main()
