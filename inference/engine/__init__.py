"""The engine: one process owns the accelerator, and everyone else talks to it over a Unix socket.

    request ─► gate ─► model server ─► worker (inference.py) ─► server ─► scheduler ─► slots ─► backend
                 └────────── streams ──────────────────────────►┘

``supervisor`` starts ``server`` and ``gate`` and keeps them running.
"""

import sys
from pathlib import Path

# What ships in code/vendor, behind the container's own packages: these win where there are both. (The gate
# has it in front, since it is tested with exactly what ships.)
_VENDOR = Path(__file__).resolve().parent.parent / "vendor"
if _VENDOR.is_dir() and str(_VENDOR) not in sys.path:
    sys.path.append(str(_VENDOR))
