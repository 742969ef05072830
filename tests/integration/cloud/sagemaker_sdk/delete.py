"""Update, then delete an endpoint by ``inf2kit.sagemaker``; run by a Python that has the SageMaker SDK.

Arguments: the endpoint, the preset, the package. Prints a line of JSON: what each of both was refused with.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4]))

from inf2kit import DeploymentError
from inf2kit.sagemaker import Deployment

name, preset, package = sys.argv[1:]
deployment = Deployment.from_name(name)


def refusal(change: Callable[[], None]) -> str:
    try:
        change()
    except DeploymentError as error:
        return str(error)
    return ""


refusals = [refusal(lambda: deployment.update(preset, package)), refusal(deployment.delete)]
print()  # the SDK ends its own lines late
print(json.dumps(refusals))
