"""Where the endpoint's image is pulled from, in each region."""

from __future__ import annotations

from inf2kit import aws, catalog
from inf2kit.errors import Inf2KitError


def registry_account(region: str, error: type[Inf2KitError]) -> str:
    """Return AWS's account whose registry has the endpoint's image in a region.

    Raises:
        Inf2KitError: of the given kind, as the region has no registry.
    """
    registries = catalog.image().registries
    account = registries.get(region)
    if account is None:
        suggestion = aws.suggest_region(region) or ";"
        raise error(
            f"there is no registry of deep learning containers in {region!r}{suggestion} there are "
            f"{', '.join(registries)}"
        )
    return account


def image_uri(region: str, error: type[Inf2KitError]) -> str:
    """Return the URI of the endpoint's image in a region's registry.

    Raises:
        Inf2KitError: of the given kind, as the region has no registry.
    """
    image, account = catalog.image(), registry_account(region, error)
    with aws.translate_errors(error, f"asking boto3 for the domain of {region}, which a newer one may know,"):
        domain = aws.dns_suffix(region)
    return f"{account}.dkr.ecr.{region}.{domain}/{image.repository}:{image.tag}"
