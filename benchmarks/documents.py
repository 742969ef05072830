"""Writes docs/performance.md from the saved samples, so that no figure in it is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import FOLDER, Report, Row

_HEAD = """# Performance

Written by `make bench-docs` from the samples of each section's last run; do not edit. SmolLM2-135M in float32, the whole stack on the
same cores as its callers; medians of 3 runs or more, except for memory and the profile, which are one sample each. A ratio is the
median of ratios of samples taken beside each other in one round. Tokens per second count new tokens only. Servers that are not
measured are stopped meanwhile. Sections may be of different machines, and what one machine measures says little about another's:
compare within a section. Nothing here says anything about a Neuron device.

![Tokens a second of inf2kit and of other servers, as in the tables below](pictures/speed.svg)
"""
_HEADING, _MEASURED = "## ", "Measured on "

#: The sections in their order: the beginning of a title, and the note under it.
_NOTES = {
    "8 callers": """"Whole stack" is boto3, runtime, gateway, model server, `predict_fn` and engine. What is left to llama.cpp is in the
decode step, below: its linear layers come nearer to what memory allows, and it has no operators of some microseconds
between them. Prompts cost the same everywhere: they are bound by arithmetic.""",
    "8 callers, 128 tokens in and 64 out, temperature": """The same, with tokens that are drawn. llama.cpp's sampler costs it more than ours
does.""",
    "one caller": "",
    "32 requests": """Static batches run until their longest text is done; here a row is free as soon as its text is.""",
    "load": """A closed loop: each caller sends its next call when the last one is answered. 8 rows and a queue of 32: beyond
40 callers the rest is refused with 429, and tries again after the answer's `retry_after_s`. Speed is the engine's own count of new
tokens over the last three quarters of the time. The callers run on the same cores.""",
    "streams": "",
    "prefills between": """`INF2KIT_PREFILLS_PER_STEP`: more prefills between two steps fill the rows sooner, fewer let running
rows wait less. A prefill takes at most 256 tokens here, of one prompt or of several. The default is 1.""",
    "where a decode": """A step must read every weight once; the roofline is that, at the bandwidth that a plain sum over 400 MB
reaches with the same threads. Linear layers have their weights packed by oneDNN (`backend/cpu/packing.py`), projections
of the same input are computed as one, and the step is recorded, without the Python between its operators
(`backend/cpu/recording.py`). What else was tried, and what is left to llama.cpp, is in
[decision 71](decisions/0071-threads-that-wait-sleep-soon.md).""",
    "engine's own": """What the engine adds to every step of a device: choosing the tokens, their text, the rows' rules. The
yardstick is the step that the blog post's tables give for Llama 2 7B at 4 rows, 7.1 ms; they are for greedy search.""",
    "choosing tokens, logits": """One step of all rows, with `torch.logsumexp` over the same logits and with the same threads as
the yardstick. Both are the fastest of many that alternate; with one thread they are its processor time, which other processes do not
add to. The logits are cut to 32,000 ids, and repeated, each copy 5 lower, to fill 128,256. Half of the rows leave 40 tokens or fewer
to top-p 0.9.""",
    "choosing tokens, random logits, deviation 3": """Top-p 0.9 is left one token in twenty.""",
    "choosing tokens, random logits, deviation 1": """Top-p 0.9 is left six tokens of ten, which is flatter than models are.""",
    "one token, one": """Each line is the whole way from that hop on; the differences are the hops.""",
    "perplexity": """`"overflow": "sinks"`: when a row is full, its first 4 tokens and the most recent ones, half a row
together, are encoded anew and the text goes on. The cost is one prefill of half a row for every half row of new tokens,
during which other rows wait as for any prompt; what lies between is forgotten. As the window is encoded anew and not
cut out of the cache, truncation without sinks hardly differs: its own first tokens become the sinks. Each sample is of another text.""",
    "start-up": "",
    "a start, the embedded": """Processor seconds until the endpoint is in service, of the processes that live then. The workers are
forked from one, which imports what the toolkit imports.""",
    "a start, the simulated": "",
    "two engines": """16 callers of one container. With the same rows and threads in all, two engines compute what one does: on a
CPU they share what limits them. On an instance each has NeuronCores of its own.""",
    "published bursts": """The container is the whole real one; only its engines are simulated, with the step times that were published
of 8 cores and 32 rows. All calls of a burst arrive at once, as they did.""",
    "a package": """`inf2kit package` hashes every file and sends what the bucket lacks; the loop only sends. Both are whole
processes, on the cores that moto runs on too.""",
    "a synth": """Most of it is CDK's own start.""",
    "a deployment rehearsed": """What a user types after `inf2kit cloud up`. Times of this machine: nothing of them is AWS's.""",
    "one token through": """The same request by the same client, to the container's port and through the cloud's.""",
    "the client, per call": """A server that answers at once, so that only the client is measured. The rounds alternate.""",
    "OpenAI's route, per call": """A chat of one token to a local endpoint with the simulated backend, in turns by both: a new bearer
token for each call, and a plain HTTP client in OpenAI's place.""",
    "the client, 2,000": """A server that takes 50 ms for each call. All clients and the server share the machine. `AsyncEndpoint` is one
thread, and takes less processor time a call than threads do. These may use a second core, since boto3 lets go of Python's lock while it
sends and receives: from about 1,000 calls a second on they can be the faster ones for that.""",
    "300 MB": """An object is a mapped file here; plain moto reads the whole of it for every part that is asked for.""",
}


def write(path: Path) -> None:
    """Write the sections that have saved samples, and keep the others as they are.

    Raises:
        SystemExit: A section has no note here.
    """
    measured = dict(_read_sections(path))
    report = Report()
    for file in FOLDER.glob("*.json"):
        section = json.loads(file.read_text(encoding="utf-8"))
        if "rows" not in section:
            continue
        title = section["title"]
        report.sections[title] = [Row(**row) for row in section["rows"]]
        machine = f"{_MEASURED}{section['date']}: {section['machine']}."
        measured[title[0].upper() + title[1:]] = f"{machine}\n\n{report.markdown(title)}"
    starts = list(_NOTES)
    titles = sorted(measured, key=lambda title: (starts.index(_start(title)), title))
    texts = [[f"{_HEADING}{title}", _NOTES[_start(title)], measured[title]] for title in titles]
    parts = ["\n\n".join(filter(None, text)) + "\n" for text in texts]
    path.write_text("\n".join([_HEAD, *parts]), encoding="utf-8")


def _read_sections(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the heading of each section, and what was measured."""
    _, *parts = path.read_text(encoding="utf-8").split(f"\n{_HEADING}")
    for part in parts:
        title, _, text = part.partition("\n")
        yield title, text[text.index(_MEASURED) :].strip()


def _start(title: str) -> str:
    """The key of a title's note: the longest one that it begins with."""
    starts = [start for start in _NOTES if title.lower().startswith(start.lower())]
    if not starts:
        raise SystemExit(f"no note in {__file__} is for {title!r}; add one")
    return max(starts, key=len)
