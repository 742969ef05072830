"""Frames of a response stream, read by botocore."""

from __future__ import annotations

from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from inf2kit.rehearsal.runtime import event_stream


@given(st.lists(st.binary(max_size=50), max_size=4))
def test_botocore_reads_our_frames(parts: list[bytes]) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(event_stream.encode_payload_part(part) for part in parts))
    events = list(buffer)
    assert [event.payload for event in events] == parts
    assert all(event.headers[":event-type"] == "PayloadPart" for event in events)
    buffer.add_data(event_stream.encode_model_stream_error("broke off", "X"))
    assert next(buffer).headers[":exception-type"] == "ModelStreamError"
