"""All that ships into the endpoint's container: the wire, the engine, the gateway. It runs on Python 3.10.

Packaging copies this folder, ``errors`` and ``_version`` into ``code/inf2kit`` of a model package, and the
pure-Python packages of ``inference/vendor.txt`` into ``code/vendor``. Nothing here imports anything else of
inf2kit.
"""

import sys
from pathlib import Path

from inf2kit.serving.model_dir import VENDOR_FOLDER

#: The folder that holds inf2kit: a package's ``code/``, or a checkout.
CODE = Path(__file__).resolve().parents[2]
#: Where packaging puts the vendored packages.
VENDOR = CODE / Path(VENDOR_FOLDER).name

# Last on the path: a package that the container's image has wins over the vendored one.
if VENDOR.is_dir() and str(VENDOR) not in sys.path:
    sys.path.append(str(VENDOR))
