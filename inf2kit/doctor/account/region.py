"""Whether the region offers the instance, and the image's registry."""

from __future__ import annotations

from collections.abc import Iterator

from inf2kit import aws, catalog
from inf2kit.catalog import prices
from inf2kit.doctor.finding import Finding, NotCheckedError, advice, ok, problem
from inf2kit.doctor.surroundings import Surroundings
from inf2kit.errors import DeploymentError, suggest


def offers_inf2(surroundings: Surroundings) -> Iterator[Finding]:
    """Whether SageMaker sells the instances as endpoints there; AWS has no other list of such regions."""
    try:
        region = surroundings.region
    except NotCheckedError as error:
        if surroundings.is_deployment and error.command:
            yield problem(str(error), "or give --region", error.command)
            return
        raise
    if region not in catalog.image().registries:
        is_misspelt = bool(aws.suggest_region(region))
        suggestion = suggest(region, catalog.regions()["ec2_inf2"]) if is_misspelt else ""
        yield problem(
            f"{region} has no registry of AWS's deep learning containers{suggestion}",
            *_elsewhere(surroundings),
        )
        return
    instance_types = surroundings.instance_types
    try:
        _ = surroundings.account
        with aws.translate_errors(DeploymentError, "asking the AWS Price List API"):
            api = surroundings.client("pricing", prices.API_REGION)
            sold = prices.fetch(api, region, instance_types)
    except (DeploymentError, NotCheckedError) as error:
        yield _from_list(region, str(error), surroundings)
        return
    missing = [name for name in instance_types if name not in sold]
    if len(missing) == len(instance_types):
        yield problem(
            f"{region} does not sell {', '.join(instance_types)} as endpoints", *_elsewhere(surroundings)
        )
        return
    text = f"{region} sells {', '.join(name for name in instance_types if name in sold)} as endpoints"
    if missing:
        yield advice(f"{text}, and not {', '.join(missing)}")
    else:
        yield ok(text, "whether there is room for one shows only when it is started")
    if region not in catalog.regions()["openai_route"]:
        yield advice(
            f"{region} has no OpenAI-compatible route of SageMaker", "boto3 and inf2kit's client work"
        )


def _from_list(region: str, reason: str, surroundings: Surroundings) -> Finding:
    """Judge by EC2's regions, where prices cannot be asked for."""
    if region in catalog.regions()["ec2_inf2"]:
        return ok(f"{region} has inf2 in EC2; endpoints were not looked up ({reason})")
    return advice(
        f"{region} is not among EC2's inf2 regions of December 2025 ({reason})", *_elsewhere(surroundings)
    )


def _elsewhere(surroundings: Surroundings) -> tuple[str, str]:
    regions = catalog.regions()["ec2_inf2"]
    command = " ".join(filter(None, ("inf2kit doctor", surroundings.preset_argument, "--region us-east-1")))
    return f"EC2 has inf2 in {', '.join(regions)}", command
