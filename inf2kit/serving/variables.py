"""Names of the container's environment variables that packaging sets and the engine reads.

docs/environment.md describes these and all others. This module ships inside the model package: standard
library only.
"""

from __future__ import annotations

#: Seconds that a call may take, instead of the preset's ``deadline_s``.
DEADLINE_SECONDS = "INF2KIT_DEADLINE_SECONDS"
#: Prompts that may wait for a row, instead of the preset's ``queue_size``.
QUEUE_SIZE = "INF2KIT_QUEUE_SIZE"
#: Prompts that one step takes in.
PREFILLS_PER_STEP = "INF2KIT_PREFILLS_PER_STEP"
#: Seconds without a step after which the engine counts as stuck.
STALL_SECONDS = "INF2KIT_STALL_SECONDS"
#: Threads of the CPU's backend.
TORCH_THREADS = "INF2KIT_TORCH_THREADS"
#: ``host:port`` of the gateway; without it the toolkit has the endpoint's port.
GATEWAY_ADDRESS = "INF2KIT_GATEWAY_ADDRESS"
#: The model server's own: its address, ``unix:PATH`` or a URL.
MODEL_SERVER_ADDRESS = "MMS_INFERENCE_ADDRESS"
#: The image's own: the number of the model server's workers.
MODEL_SERVER_WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"
