"""Prompts that crash the engine are refused after a while."""

from __future__ import annotations

from inf2kit.errors import RequestError
from inf2kit.serving.gateway.crashes import Crashes
from inf2kit.serving.wire import Chat, GenerateRequest


def prompt(*texts: str) -> GenerateRequest:
    return GenerateRequest(form="tgi", prompts=texts)


def is_refused(crashes: Crashes, request: GenerateRequest) -> bool:
    try:
        crashes.leave(crashes.enter(request), failed=False)
    except RequestError as error:
        assert (error.status, error.code) == (422, "crashed_before")
        return True
    return False


def test_a_prompt_is_refused_after_two_crashes_while_it_was_in_progress() -> None:
    crashes = Crashes()
    for _ in range(2):
        assert not is_refused(crashes, prompt("bad"))
        digests = crashes.enter(prompt("good", "bad", "bad"))
        crashes.record_crash()
        crashes.leave(digests, failed=False)
    assert is_refused(crashes, prompt("bad"))
    assert is_refused(crashes, prompt("other", "bad"))
    assert is_refused(crashes, prompt("good")), "it cannot be told which one it was"
    assert not is_refused(crashes, prompt("other"))
    assert not crashes._in_progress


def test_a_call_that_had_its_error_first_counts_and_one_that_was_answered_does_not() -> None:
    crashes = Crashes()
    for _ in range(2):
        crashes.leave(crashes.enter(prompt("failed")), failed=True)
        crashes.leave(crashes.enter(prompt("answered")), failed=False)
        crashes.record_crash()
        crashes.record_crash()  # nothing was in progress any more
    assert is_refused(crashes, prompt("failed"))
    assert not is_refused(crashes, prompt("answered"))


def test_chats_are_known_by_all_their_messages() -> None:
    def chat(text: str) -> GenerateRequest:
        messages = ({"role": "system", "content": "same"}, {"role": "user", "content": text})
        return GenerateRequest(form="chat", prompts=(Chat(messages),))

    crashes = Crashes()
    for _ in range(2):
        digests = crashes.enter(chat("bad"))
        crashes.record_crash()
        crashes.leave(digests, failed=True)
    assert is_refused(crashes, chat("bad"))
    assert not is_refused(crashes, chat("good"))
