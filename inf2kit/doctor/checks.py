"""The registry: every check, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inf2kit.doctor import dates, hub, leftovers, machine, toolchain
from inf2kit.doctor.account import billing, bucket, identity, image, quota, region, role, stacks
from inf2kit.doctor.finding import Finding
from inf2kit.doctor.surroundings import Surroundings

MACHINE, DATES, ACCOUNT, HUB = "this machine", "dates", "AWS", "Hugging Face hub"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: Its name in the report.
        group: ``this machine``, ``dates``, ``AWS`` or ``Hugging Face hub``.
        run: Looks, and yields at least one finding. What it raises becomes the check's line.
    """

    name: str
    group: str
    run: Callable[[Surroundings], Iterable[Finding]]

    def fits(self, surroundings: Surroundings) -> bool:
        """Whether the check is made at all."""
        if self.group == ACCOUNT:
            return surroundings.asks_aws
        if self.group == HUB:
            return not surroundings.offline and surroundings.is_deployment
        if self.group == DATES:
            return surroundings.preset is None or surroundings.is_deployment
        return True


CHECKS = (
    Check("Python", MACHINE, machine.python),
    Check("extras", MACHINE, toolchain.extras_installed),
    Check("Node", MACHINE, toolchain.node),
    Check("cdk", MACHINE, toolchain.cdk),
    Check("embedded model", MACHINE, toolchain.embedded_model),
    Check("folder", MACHINE, machine.folder),
    Check("disk", MACHINE, machine.disk),
    Check("memory", MACHINE, machine.memory),
    Check("ports", MACHINE, machine.ports),
    Check("leftovers", MACHINE, leftovers.on_this_machine),
    Check("identity", ACCOUNT, identity.caller),
    Check("credentials", ACCOUNT, identity.expiry),
    Check("region", ACCOUNT, region.offers_inf2),
    Check("quota", ACCOUNT, quota.endpoint_usage),
    Check("image", ACCOUNT, image.in_registry),
    Check("bootstrap", ACCOUNT, stacks.bootstrap),
    Check("stacks", ACCOUNT, stacks.states),
    Check("bucket", ACCOUNT, bucket.of_packages),
    Check("role", ACCOUNT, role.trust),
    Check("what bills", ACCOUNT, billing.what_bills),
    Check("licence", HUB, hub.licence),
    Check("prices", DATES, dates.prices),
    Check("support", DATES, dates.support),
)
