"""One inventory of what exists of inf2kit: in a region of AWS by tag, and on this machine.

    inventory = scan_account(client, "eu-west-1")
    for resource in inventory.resources:
        print(resource.label, resource.usd_per_hour)

``inf2kit doctor`` and ``inf2kit cleanup`` both read it.
"""

from inf2kit.inventory.account import scan_account
from inf2kit.inventory.deletion import CleanupPlan, Outcome, Retained, delete, plan_cleanup
from inf2kit.inventory.resources import Inventory, Resource

__all__ = [
    "CleanupPlan",
    "Inventory",
    "Outcome",
    "Resource",
    "Retained",
    "delete",
    "plan_cleanup",
    "scan_account",
]
