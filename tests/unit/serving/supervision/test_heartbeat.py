"""The time stamp that processes share."""

from __future__ import annotations

import subprocess
import sys
import time

from inf2kit.serving.supervision.heartbeat import ENGINE, Heartbeat


def test_a_heartbeat_is_seen_by_other_processes() -> None:
    heartbeat = Heartbeat.create()
    assert not heartbeat.serving
    assert not heartbeat.stalled
    code = (
        "from inf2kit.serving.supervision.heartbeat import ENGINE, Heartbeat;"
        "Heartbeat.inherited(ENGINE).begin(0.5)"
    )
    command = [sys.executable, "-c", code]
    subprocess.run(command, env={ENGINE: str(heartbeat.fd)}, pass_fds=[heartbeat.fd], check=True)
    assert heartbeat.serving
    time.sleep(0.6)
    assert heartbeat.stalled
    heartbeat.beat()
    assert not heartbeat.stalled
    heartbeat.clear()
    time.sleep(0.6)
    assert not heartbeat.stalled, "no process serves, so none is stuck"
    assert heartbeat.silent_s == 0


def test_a_beat_never_looks_like_no_process() -> None:
    """A reader in the middle of a beat once saw a zero, and the supervisor killed a healthy engine."""
    heartbeat = Heartbeat.create()
    heartbeat.begin(10)
    code = (
        "from inf2kit.serving.supervision.heartbeat import ENGINE, Heartbeat\n"
        "heartbeat = Heartbeat.inherited(ENGINE)\n"
        "print('beating', flush=True)\n"
        "while True: heartbeat.beat()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, env={ENGINE: str(heartbeat.fd)}, pass_fds=[heartbeat.fd], stdout=subprocess.PIPE
    ) as beating:
        assert beating.stdout
        beating.stdout.readline()
        try:
            reading_until = time.monotonic() + 1
            while time.monotonic() < reading_until:
                assert all(heartbeat.serving for _ in range(10_000))
        finally:
            beating.kill()
