"""A model's folder as others write it: what it is, what is wrong with it, what becomes of it in a package.

    inspection = inspect(Path("my-model"))
    print("\\n".join(inspection.lines()))
    inspection.check()

Whatever packages, compiles or sizes a model looks here first, so that the same folder is refused with the
same sentence everywhere, and before anything is sent or paid for. The folder itself is never changed.
"""

from inf2kit.checkpoint.architecture import Architecture
from inf2kit.checkpoint.inspection import Inspection
from inf2kit.checkpoint.layout import Layout, LeftOut, sort_files
from inf2kit.checkpoint.naming import name_of
from inf2kit.checkpoint.reader import check_config, inspect

__all__ = [
    "Architecture",
    "Inspection",
    "Layout",
    "LeftOut",
    "check_config",
    "inspect",
    "name_of",
    "sort_files",
]
