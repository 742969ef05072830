"""Start the model server as the toolkit does, but write its configuration to the endpoint's own folder.

The everyday launcher runs this as ``python -m inf2kit.rehearsal.container.model_server`` with the container's
environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Write the configuration that the toolkit generates, then become the model server."""
    # Imported here because these modules read the environment when they are imported.
    from sagemaker_inference import environment, model_server

    handler = "sagemaker_huggingface_inference_toolkit.handler_service"
    properties = Path(os.environ["TEMP"]) / "sagemaker-mms.properties"
    # Private functions of a package that is pinned; the unit tests call them and would show a change.
    settings = model_server._generate_mms_config_properties(environment.Environment(), handler)
    properties.write_text(settings, encoding="utf-8")
    model_server._set_python_path()
    command = [
        # The content of the script multi-model-server, wherever that is installed.
        "-c",
        "from mms.model_server import start; start()",
        "--start",
        "--foreground",
        "--model-store",
        model_server.MODEL_STORE,
        "--mms-config",
        str(properties),
        "--log-config",
        model_server.DEFAULT_MMS_LOG_FILE,
        "--models",
        f"{model_server.DEFAULT_MMS_MODEL_NAME}={environment.model_dir}",
    ]
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606


if __name__ == "__main__":
    main()
