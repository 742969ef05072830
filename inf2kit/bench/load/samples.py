"""What was measured of each call, before anything is computed from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from inf2kit.errors import EndpointError, JobError

#: The kind of a call that was ended because the run was.
CANCELLED = "cancelled"


@dataclass(frozen=True)
class Load:
    """The load of one cell of a run.

    Attributes:
        kind: ``callers``: so many callers, each of which sends its next call when the last one has ended (a
            closed loop). ``rate``: calls a second, whether earlier ones have ended or not (an open loop).
            ``replay``: an open loop whose calls come at the times of a trace.
        value: Number of callers, calls a second, or how many times as fast as the trace.
    """

    kind: Literal["callers", "rate", "replay"]
    value: float

    @property
    def is_open(self) -> bool:
        """Whether calls come without waiting for the answers to earlier ones."""
        return self.kind != "callers"

    def __str__(self) -> str:
        """Return it as ``4 callers``, ``0.5/s`` or ``replay x2``."""
        if self.kind == "rate":
            return f"{self.value:g}/s"
        if self.kind == "replay":
            return f"replay x{self.value:g}"
        return "1 caller" if self.value == 1 else f"{self.value:g} callers"


@dataclass(frozen=True)
class Sample:
    """One call, as the client saw it. All times are seconds since its cell began.

    Attributes:
        number: The call's place in its cell, from 0.
        due_s: When it was to be sent. Latencies count from here, so that a late send is not forgiven.
        sent_s: When it was sent.
        end_s: When its answer, or its failure, was complete.
        chunk_s: When each piece of a streamed text came.
        wanted_input_tokens: Input tokens that the prompt was built for; None for a prompt of the user's.
        wanted_tokens: New tokens that were forced; None where the model may end earlier.
        input_tokens: Input tokens, as the server counts them.
        generated_tokens: New tokens, as the server counts them.
        characters: Characters of the new text.
        words: Words of the new text.
        finish_reason: Why the text ended.
        failure: The kind of a failure, such as ``busy: queue_full``; None for an answer.
        message: The failure's sentence.
    """

    number: int
    due_s: float
    sent_s: float
    end_s: float
    chunk_s: tuple[float, ...] = ()
    wanted_input_tokens: int | None = None
    wanted_tokens: int | None = None
    input_tokens: int = 0
    generated_tokens: int = 0
    characters: int = 0
    words: int = 0
    finish_reason: str = ""
    failure: str | None = None
    message: str = ""

    @property
    def latency_s(self) -> float:
        """Seconds from when it was due to its end."""
        return self.end_s - self.due_s

    @property
    def first_s(self) -> float | None:
        """Seconds from when it was due to its first text; None for a whole answer."""
        return self.chunk_s[0] - self.due_s if self.chunk_s else None


@dataclass(frozen=True)
class ClientShare:
    """How busy the measuring process itself was during a cell.

    Attributes:
        lag_p50_s: Median seconds by which its event loop woke up too late.
        lag_p95_s: 95th percentile of the same.
        lag_max_s: The longest of them.
        cpu: Its seconds of processor time per second.
    """

    lag_p50_s: float = 0.0
    lag_p95_s: float = 0.0
    lag_max_s: float = 0.0
    cpu: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One load, and what came of it.

    Attributes:
        load: The load.
        samples: Its calls, in the order in which they ended.
        began: When it began, in ISO 8601.
        stop_s: When no more calls were sent.
        streamed: Whether answers were streamed.
        client: How busy the client was.
        server: Increases of the server's counters (``/metrics``) during the cell; None if it was not read.
        interrupted: Whether it was ended before its time.
    """

    load: Load
    samples: tuple[Sample, ...]
    began: str
    stop_s: float
    streamed: bool
    client: ClientShare = field(default_factory=ClientShare)
    server: dict[str, float] | None = None
    interrupted: bool = False

    @property
    def ended(self) -> list[Sample]:
        """The calls that had an answer or failed by themselves."""
        return [sample for sample in self.samples if sample.failure != CANCELLED]

    def to_json(self) -> dict[str, Any]:
        """Return it for a JSON file, the raw samples first."""
        values = asdict(self)
        return {"samples": values.pop("samples"), **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Cell:
        """Read what ``to_json`` returned.

        Raises:
            KeyError, TypeError: it is something else.
        """
        return cls(
            load=Load(**values["load"]),
            samples=tuple(
                Sample(**{**sample, "chunk_s": tuple(sample["chunk_s"])}) for sample in values["samples"]
            ),
            began=values["began"],
            stop_s=values["stop_s"],
            streamed=values["streamed"],
            client=ClientShare(**values["client"]),
            server=values["server"],
            interrupted=values["interrupted"],
        )


def failure_kind(error: EndpointError) -> str:
    """Return the kind of a failure: the error's class in a word, and its code where it has one."""
    name = "job" if isinstance(error, JobError) else type(error).__name__
    kind = name.removeprefix("Endpoint").removesuffix("Error").lower() or "endpoint"
    code = error.code or (str(error.status) if error.status else "")
    return f"{kind}: {code}" if code else kind
