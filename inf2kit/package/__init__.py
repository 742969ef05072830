"""Model packages: immutable prefixes named by a digest, with weights, tokenizer, ``code/`` and a manifest.

Publishing is planned first, and the plan can be printed:

    contents = collect(preset, Path("llama2-7b"))
    plan = publish.plan(contents, open_store("s3://bucket/models"))
    publish.execute(plan)
"""

from inf2kit.package.contents import Contents, collect
from inf2kit.package.maintenance import ListedPackage, list_packages, prune, select_prunable, verify
from inf2kit.package.manifest import Manifest
from inf2kit.package.publish import PublishPlan
from inf2kit.package.stores.base import Store
from inf2kit.package.stores.locations import open_store, split_uri

__all__ = [
    "Contents",
    "ListedPackage",
    "Manifest",
    "PublishPlan",
    "Store",
    "collect",
    "list_packages",
    "open_store",
    "prune",
    "select_prunable",
    "split_uri",
    "verify",
]
