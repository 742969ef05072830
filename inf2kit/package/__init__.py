"""Model packages: one immutable prefix, named by its digest, with weights, tokenizer, ``code/`` and manifest.

contents = gather(preset, Path("llama2-7b"))
publish(contents, at("s3://bucket/models"))
"""

from inf2kit.package.contents import Contents, gather
from inf2kit.package.maintenance import listed, prune, to_prune, verify
from inf2kit.package.manifest import Manifest
from inf2kit.package.publish import Plan, plan, publish
from inf2kit.package.stores.base import Store
from inf2kit.package.stores.locations import at, split

__all__ = [
    "Contents",
    "Manifest",
    "Plan",
    "Store",
    "at",
    "gather",
    "listed",
    "plan",
    "prune",
    "publish",
    "split",
    "to_prune",
    "verify",
]
