"""What of inf2kit still runs and bills."""

from __future__ import annotations

from collections.abc import Iterator

from inf2kit.doctor.finding import Finding, Status, advice, ok
from inf2kit.doctor.surroundings import Surroundings, stand_in


def what_bills(surroundings: Surroundings) -> Iterator[Finding]:
    """The endpoints and jobs of inf2kit, with their cost, in this region only."""
    inventory = surroundings.inventory
    for sentence in inventory.failures:
        yield Finding(Status.NOT_CHECKED, sentence)
    command = f"inf2kit cleanup --region {surroundings.region}"
    for resource in inventory.billing:
        text = f"{resource.label} ({resource.status}): {resource.detail or resource.kind}, {resource.cost}"
        owner = f"it belongs to the stack {resource.stack}" if resource.stack else ""
        yield advice(text, owner, f"cdk destroy {resource.stack}" if resource.stack else command)
    if inventory.billing:
        simulated = "; simulated: nothing is billed" if stand_in() else ""
        total = f"${inventory.usd_per_hour:.2f} an hour, ${24 * inventory.usd_per_hour:,.0f} a day"
        yield ok(f"together {total}, as far as prices are known{simulated}")
        return
    if not inventory.failures:
        idle = len(inventory.resources)
        rest = f"; resources that cost nothing by the hour: {idle}" if idle else ""
        yield ok(f"nothing of inf2kit bills in {surroundings.region}{rest}", command=command if idle else "")
