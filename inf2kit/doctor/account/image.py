"""Whether the endpoint's image is in the region's registry."""

from __future__ import annotations

from collections.abc import Iterator

from inf2kit import catalog
from inf2kit.doctor.finding import Finding, NotCheckedError, ok, problem
from inf2kit.doctor.surroundings import Surroundings


def in_registry(surroundings: Surroundings) -> Iterator[Finding]:
    """Ask the registry of AWS's own account for the pinned tag, with the caller's rights."""
    image, region = catalog.image(), surroundings.region
    registry = image.registries.get(region)
    if registry is None:
        raise NotCheckedError(f"{region} has no registry of deep learning containers")
    _ = surroundings.account
    ecr = surroundings.client("ecr")
    uri = f"{registry}.dkr.ecr.{region}/{image.repository}:{image.tag}"
    hint = "choose another --region, or look at AWS's list of deep learning containers"
    try:
        answer = ecr.batch_get_image(
            registryId=registry, repositoryName=image.repository, imageIds=[{"imageTag": image.tag}]
        )
    except ecr.exceptions.RepositoryNotFoundException:
        yield problem(f"{region} has no repository {image.repository} of account {registry}", hint)
        return
    if answer.get("images"):
        yield ok(f"{uri} is there")
    else:
        yield problem(f"{uri} is not there", hint)
