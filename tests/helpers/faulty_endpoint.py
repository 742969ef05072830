"""A double of an endpoint that is faulty in one way: it makes up words at a pace, without a model."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from inf2kit.rehearsal.runtime import event_stream
from inf2kit.serving.wire import AnswerOptions, Generation, Token, response_writer
from tests.helpers.fault_server import STREAM_TYPE, LeftError, chunk, head, read_request

#: Words of one token each, by the double's own count: a prompt has a token for each word, and one more.
WORDS = itertools.cycle([" one", " two", " three"])


@dataclass
class FaultyEndpoint:
    """A fault for ``FaultServer``, with what is wrong; nothing by default.

    Attributes:
        drop_every: Each so-manieth stream breaks off in its middle; 0 for none.
        stall_every: Each so-manieth stream stands still for ``stall_s`` in its middle; 0 for none.
        stall_s: Seconds of that.
        streams: Whether text comes when it is generated, and not at the end.
        counted: Tokens that it counts for each that it generates.
        generated: Share of the tokens that were asked for.
        input_tokens: Tokens that it counts for each of a prompt.
        step_s: Seconds of a token.
    """

    drop_every: int = 0
    stall_every: int = 0
    stall_s: float = 1.3
    streams: bool = True
    counted: float = 1.0
    generated: float = 1.0
    input_tokens: float = 1.0
    step_s: float = 0.002
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __call__(self, connection: socket.socket, is_stream: bool) -> None:
        """Answer one call."""
        body = json.loads(read_request()[1])
        number = next(self._numbers) if is_stream else 0
        tokens = max(int(self.generated * body["parameters"]["max_new_tokens"]), 1)
        words = list(itertools.islice(WORDS, tokens))
        generation = Generation(
            "".join(words),
            "",
            "length",
            int(self.input_tokens * (len(body["inputs"].split()) + 1)),
            max(int(self.counted * tokens), 1),
            seed=7,
        )
        if not is_stream:
            time.sleep(self.step_s * tokens)
            content = json.dumps(
                response_writer(AnswerOptions("tgi", details="counts")).body([generation])
            ).encode()
            connection.sendall(head(200, "application/json", len(content)) + content)
            return
        connection.sendall(head(200, STREAM_TYPE, None))
        late = b""
        for place, part in enumerate(_records(words, generation)):
            time.sleep(self.step_s)
            if place == tokens // 2:
                if self.drop_every and number % self.drop_every == 0:
                    raise LeftError(reset=True)
                if self.stall_every and number % self.stall_every == 0:
                    time.sleep(self.stall_s)
            frame = chunk(event_stream.encode_payload_part(part))
            if self.streams:
                connection.sendall(frame)
            else:
                late += frame
        connection.sendall(late + chunk(b""))


def _records(words: list[str], generation: Generation) -> list[bytes]:
    writer = response_writer(AnswerOptions("tgi", details="counts"))
    tokens = [Token(number, word, -0.5, special=False) for number, word in enumerate(words)]
    records = [
        record
        for index, token in enumerate(tokens[:-1], 1)
        for record in writer.token_records(0, index, token)
    ]
    return records + writer.last_records(0, len(tokens), tokens[-1], generation)
