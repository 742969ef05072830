"""What the engine gives for one prompt: tokens, and the whole generation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Token:
    """One new token.

    Attributes:
        id: Its id in the vocabulary.
        text: The text that it completes: whole characters only, so it may be empty and a later token's
            longer. The texts of all tokens, joined, are the generated text.
        logprob: Natural logarithm of its probability in the model's own distribution, before penalties and
            warpers; None where the backend samples on the device.
        special: Whether it is a special token without text, such as end of sequence.
        top_tokens: The most likely tokens at its place, best first, in the model's own distribution; each has
            the text that it would have alone.
    """

    id: int
    text: str
    logprob: float | None
    special: bool
    top_tokens: tuple[Token, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the token as Text Generation Inference writes it."""
        return {"id": self.id, "text": self.text, "logprob": self.logprob, "special": self.special}


@dataclass(frozen=True)
class Generation:
    """The continuation of one prompt.

    Attributes:
        text: The new text.
        prompt: The prompt if the request asked for the full text, else empty.
        finish_reason: ``length``, ``eos_token``, ``stop_sequence`` or ``time_limit``.
        input_length: Tokens of the prompt.
        generated_tokens: New tokens, an end-of-sequence token included.
        seed: The seed in use; None for greedy search.
        tokens: The new tokens, if the answer lists them.
        prefill: The prompt's tokens, if the request asked for them; without log-probabilities, since a
            compiled prefill graph returns the logits of the last position only.
        warnings: What was changed about the request, such as a lowered length.
    """

    text: str
    prompt: str
    finish_reason: str
    input_length: int
    generated_tokens: int
    seed: int | None = None
    tokens: tuple[Token, ...] = ()
    prefill: tuple[Token, ...] = ()
    warnings: tuple[str, ...] = ()
