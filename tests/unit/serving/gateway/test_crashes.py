"""Prompts that crash the engine are refused after a while."""

from __future__ import annotations

from inf2kit.errors import RequestError
from inf2kit.serving.gateway.crashes import Crashes, prompts_of
from inf2kit.serving.wire import Chat, GenerateRequest


def prompt(*texts: str) -> GenerateRequest:
    return GenerateRequest(form="tgi", prompts=texts)


def is_refused(crashes: Crashes, request: GenerateRequest) -> bool:
    try:
        crashes.check(prompts_of(request))
    except RequestError as error:
        assert (error.status, error.code) == (422, "crashed_before")
        return True
    return False


def test_a_prompt_is_refused_after_two_crashes_while_it_was_in_progress() -> None:
    crashes = Crashes()
    for _ in range(2):
        assert not is_refused(crashes, prompt("bad"))
        prompts = prompts_of(prompt("good", "bad", "bad"))
        crashes.enter(prompts)
        crashes.record_crash()
        crashes.leave(prompts, failed=False)
    assert is_refused(crashes, prompt("bad"))
    assert is_refused(crashes, prompt("other", "bad"))
    assert is_refused(crashes, prompt("good")), "it cannot be told which one it was"
    assert not is_refused(crashes, prompt("other"))
    assert not crashes.is_running(prompts_of(prompt("good", "bad")))


def test_a_call_that_had_its_error_first_counts_and_one_that_was_answered_does_not() -> None:
    crashes = Crashes()
    for _ in range(2):
        for text, failed in (("failed", True), ("answered", False)):
            prompts = prompts_of(prompt(text))
            crashes.enter(prompts)
            crashes.leave(prompts, failed=failed)
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
        prompts = prompts_of(chat("bad"))
        crashes.enter(prompts)
        crashes.record_crash()
        crashes.leave(prompts, failed=True)
    assert is_refused(crashes, chat("bad"))
    assert not is_refused(crashes, chat("good"))
