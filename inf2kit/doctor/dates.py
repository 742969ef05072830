"""Facts with a date: prices, and what is no longer supported."""

from __future__ import annotations

from collections.abc import Iterator

from inf2kit import catalog
from inf2kit.catalog import prices as price_lists
from inf2kit.doctor.finding import Finding, NotCheckedError, advice, ok
from inf2kit.doctor.surroundings import Surroundings

_OLD_DAYS = 90
_SOON_DAYS = 90


def prices(surroundings: Surroundings) -> Iterator[Finding]:
    """The hourly price of the instances, how old it is, and for which region."""
    price_list = price_lists.current()
    region = _region_or_none(surroundings)
    parts, regions = [], set()
    for instance_type in surroundings.instance_types:
        price = price_list.find(instance_type, region)
        if price is None:
            parts.append(f"{instance_type} not known")
            continue
        regions.add(price.region)
        parts.append(f"{instance_type} ${price.usd_per_hour:.2f}")
    age = (surroundings.today - price_list.date).days
    where = f" an hour in {', '.join(sorted(regions))}" if regions else ""
    text = f"{', '.join(parts)}{where}, of {price_list.dated}"
    refresh = f"inf2kit prices refresh{f' --region {region}' if region else ''}"
    if age > _OLD_DAYS:
        yield advice(text, f"{age} days old", refresh)
    elif region and regions - {region}:
        yield advice(text, f"not those of {region}", refresh)
    elif price_list.is_estimate:
        yield ok(text, "AWS's own prices are a command away", refresh)
    else:
        yield ok(text)


def support(surroundings: Surroundings) -> Iterator[Finding]:
    """What has ended, or ends soon."""
    ends = catalog.support_ends()
    for end in ends:
        days = (end.date - surroundings.today).days
        if days < 0:
            yield advice(f"ended on {end.date}: {end.what}", end.advice)
        elif days <= _SOON_DAYS:
            yield advice(
                f"ends on {end.date}, in {days} day{'' if days == 1 else 's'}: {end.what}", end.advice
            )
    later = [end for end in ends if (end.date - surroundings.today).days > _SOON_DAYS]
    if later:
        yield ok(f"next end: {later[0].date}, {later[0].what}")


def _region_or_none(surroundings: Surroundings) -> str | None:
    try:
        return surroundings.region
    except NotCheckedError:
        return None
