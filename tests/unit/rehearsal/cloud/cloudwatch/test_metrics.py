"""CloudWatch's statistics."""

from __future__ import annotations

import pytest

from inf2kit.rehearsal.cloud.cloudwatch.metrics import Second, statistic


def test_statistics() -> None:
    second = Second(0)
    for value in (1.0, 2.0, 6.0):
        second.add(value)
    values = {name: statistic([second], name) for name in ("Sum", "Average", "Maximum", "SampleCount", "p50")}
    assert values == {"Sum": 9, "Average": 3, "Maximum": 6, "SampleCount": 3, "p50": 2}
    assert statistic([], "Sum") is None
    assert statistic([second], "TM(34%:67%)") == 2, "without the least and the most"
    with pytest.raises(ValueError, match="IQM is not computed"):
        statistic([second], "IQM")
