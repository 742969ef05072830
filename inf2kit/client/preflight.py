"""What a call will take, before it is sent: a whole answer must come within SageMaker's 60 s."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from inf2kit.catalog import speeds
from inf2kit.catalog.speeds import Speed
from inf2kit.client.batch import LENGTHS
from inf2kit.client.published import PublishedEndpoint
from inf2kit.errors import CallTooLongError
from inf2kit.names import preset_of_endpoint

#: SageMaker ends a call after 60 s, and the endpoint returns what it has after 55 s.
WHOLE_LIMIT_S = 55.0
#: Characters of a token of English text in Llama's vocabulary, about. The client has no tokenizer.
_CHARACTERS_PER_TOKEN = 4


def find_speed(endpoint: str, published: PublishedEndpoint | None) -> Speed | None:
    """Return the speed of the preset that an endpoint serves, if it is known.

    Raises:
        EndpointError: the user's own calibration of the preset cannot be read.
    """
    preset = published.preset if published else preset_of_endpoint(endpoint, speeds.measured_presets())
    return None if preset is None else speeds.find_speed(preset)


def too_long(
    endpoint: str,
    speed: Speed,
    rows: int,
    texts: Sequence[str],
    parameters: Mapping[str, Any],
    default_tokens: int | None,
) -> CallTooLongError | None:
    """Return the error of a call whose whole answer would come too late, else None.

    Args:
        endpoint: The EndpointName, for the error.
        speed: The preset's speed.
        rows: Number of texts that are decoded at once.
        texts: The prompts.
        parameters: The call's parameters.
        default_tokens: New tokens of a call that does not say; None if that is up to the model.
    """
    new_tokens = next((parameters[name] for name in LENGTHS if parameters.get(name)), default_tokens)
    if not isinstance(new_tokens, int) or not texts:
        return None
    input_tokens = max(map(len, texts)) // _CHARACTERS_PER_TOKEN
    count = parameters.get("n")
    rounds = math.ceil(len(texts) * (count if isinstance(count, int) and count > 0 else 1) / max(rows, 1))
    expected_s = rounds * speed.call_s(input_tokens, new_tokens)
    if expected_s <= WHOLE_LIMIT_S:
        return None
    fitting = speed.new_tokens(input_tokens, WHOLE_LIMIT_S / rounds)
    most = f"at most {fitting} new tokens" if fitting else "fewer prompts a call"
    return CallTooLongError(
        f"{new_tokens} new tokens are expected to take {expected_s:.0f} s on endpoint {endpoint!r}, by "
        f"{speed.source}, and a whole answer must come within {WHOLE_LIMIT_S:.0f} s. Ask for {most}, stream "
        "(8 minutes; generate(..., long='stream') does it by itself), or call an asynchronous endpoint "
        "(an hour). allow_long=True sends the call all the same",
        expected_s=expected_s,
        max_new_tokens=fitting,
    )
