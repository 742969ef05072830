"""What the image's entry point does, step for step; it is process 1 of a faithful container.

It is copied into the container and run there by the container's Python, which has no inf2kit.
"""

from __future__ import annotations

import subprocess


def main() -> None:
    """Start the monitor, serve, and then stay: the container does not end with its model server."""
    subprocess.check_call(["/neuron-monitor.sh"])
    # Only the container has it, and it takes seconds to import.
    from sagemaker_huggingface_inference_toolkit import serving

    serving.main()
    subprocess.call(["/usr/bin/tail", "-f", "/dev/null"])


if __name__ == "__main__":
    main()
