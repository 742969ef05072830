"""The preset's model on the Hugging Face hub: whether it may be downloaded."""

from __future__ import annotations

from collections.abc import Iterator

from inf2kit.doctor.finding import Finding, NotCheckedError, ok, problem
from inf2kit.doctor.surroundings import Surroundings
from inf2kit.errors import CheckpointError, CompileError


def licence(surroundings: Surroundings) -> Iterator[Finding]:
    """Whether the user's token can read the model: a gate opens only after its licence is accepted."""
    from inf2kit.compile import hub

    assert surroundings.preset is not None, "the check is made for a preset"  # noqa: S101
    model = surroundings.preset.model
    try:
        hub_model = hub.find(model.id, None)
        # The gate is in front of the files, not of the description.
        hub.read_config(hub_model, keep=False)
    except hub.HubUnreachableError as error:
        raise _not_checked(str(error)) from None
    except (CompileError, CheckpointError) as error:
        yield problem(*_split_hint(str(error)))
    else:
        state = "gated, and your account may read it" if hub_model.gated else "open to everybody"
        yield ok(f"{model.id} is {state}")


def _not_checked(sentence: str) -> NotCheckedError:
    """Split why the hub cannot be asked from what to try."""
    reason, _, hint = sentence.partition("; ")
    if hint.startswith("run: "):
        return NotCheckedError(reason, hint.removeprefix("run: "))
    # What a command that needs the model's files could take instead is of no use here.
    return NotCheckedError(reason, hint=hint.partition(", or give --model")[0])


def _split_hint(sentence: str) -> tuple[str, str]:
    """Split what is wrong from what to try."""
    for separator in (": accept", "; "):
        if separator in sentence:
            text, hint = sentence.split(separator, 1)
            return text, f"{separator.strip(':; ')} {hint.strip()}".strip()
    return sentence, ""
