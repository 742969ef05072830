"""One step's output to the next token of each sequence, with what its answer says about it."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Rows

from inf2kit.errors import RequestError
from inf2kit.serving.engine.backend import StepOutput
from inf2kit.serving.engine.logprobs import logprobs
from inf2kit.serving.engine.sampler import NO_TOKEN, sample
from inf2kit.serving.engine.sequence import NextToken, Sequence

logger = logging.getLogger(__name__)


def choose_tokens(step: StepOutput, sequences: Rows[Sequence]) -> list[NextToken | RequestError]:
    """Choose the next token of each sequence, or give the error that ends it; the others continue.

    Args:
        step: The output of a step, a row for each sequence.
        sequences: The sequences, in the order of the rows.
    """
    if step.ids is not None:
        return [NextToken(token_id) for token_id in step.ids]
    ids = _sample(step, sequences)
    tokens: list[NextToken | RequestError] = [
        token_id if isinstance(token_id, RequestError) else NextToken(token_id) for token_id in ids
    ]
    listed = [
        index
        for index, sequence in enumerate(sequences)
        if sequence.request.with_logprobs and isinstance(tokens[index], NextToken)
    ]
    if not listed:
        return tokens
    logits = step.select(listed).logits
    chosen = [token.id for index in listed if isinstance(token := tokens[index], NextToken)]
    counts = [sequences[index].request.parameters.top_n_tokens for index in listed]
    values, top = logprobs(logits, chosen, counts)
    for index, token_id, value, row in zip(listed, chosen, values, top, strict=True):
        tokens[index] = NextToken(token_id, value, tuple(row))
    return tokens


def _sample(step: StepOutput, sequences: Rows[Sequence]) -> list[int | RequestError]:
    try:
        ids = sample(step.logits, [sequence.sampler for sequence in sequences])
    except Exception:
        if len(sequences) == 1:
            logger.exception("row %d: no token can be chosen", sequences[0].row)
            return [RequestError(500, "internal_error", "the engine could not continue this text")]
        # One row must not end the others.
        return [_sample(step.select([index]), [sequence])[0] for index, sequence in enumerate(sequences)]
    return [_no_token_left() if token_id == NO_TOKEN else token_id for token_id in ids]


def _no_token_left() -> RequestError:
    return RequestError(
        422,
        "invalid_parameter",
        "the request's options leave no token to choose; give a lower 'min_new_tokens', or fewer "
        "'stop_token_ids'",
    )
