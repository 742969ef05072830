"""The limit on texts at once, and the share of lists in it."""

from __future__ import annotations

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.engine.admission import Admission


def test_capacity_comes_back_in_every_order() -> None:
    """A list takes half of the capacity at most, and releases it text by text or all at once."""
    admission = Admission(10)
    admission.admit(10)
    for _ in range(5):
        admission.admit(1)
    with pytest.raises(RequestError, match=r"15 prompts are running or waiting .* holds 10") as caught:
        admission.admit(1, retry_after_s=7)
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (429, "queue_full", 7)
    for left in range(9, 4, -1):
        admission.release(left + 1, left)  # the first five take no capacity
        with pytest.raises(RequestError):
            admission.admit(1)
    admission.release(5, 4)
    admission.admit(1)
    admission.release(4)
    for _ in range(6):
        admission.release(1)
    assert admission.texts == 0
    for _ in range(10):
        admission.admit(1)


def test_lists_have_half_of_the_capacity_together() -> None:
    """Two lists that fill the endpoint twice would keep all other calls out."""
    admission = Admission(12)
    admission.admit(12)
    with pytest.raises(RequestError):
        admission.admit(2)
    for _ in range(6):
        admission.admit(1)
    with pytest.raises(RequestError):
        admission.admit(1)
    admission.release(12)
    for _ in range(2):
        admission.admit(3)
    with pytest.raises(RequestError):
        admission.admit(3)
    admission.release(3)
    admission.admit(3)


def test_a_capacity_of_one_takes_one_text_and_the_call_that_replaces_it() -> None:
    admission = Admission(1)
    admission.admit(1)
    with pytest.raises(RequestError):
        admission.admit(1)
    admission.admit(1, replaces_admitted=True)
    admission.release(1)
    with pytest.raises(RequestError):
        admission.admit(1)
    admission.release(1)
    admission.admit(1)
