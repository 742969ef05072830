"""Starting, finding and stopping the rehearsal cloud."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from inf2kit.client.local import MARK
from inf2kit.errors import CloudError
from inf2kit.rehearsal import folders
from inf2kit.rehearsal.cloud import settings as kept
from inf2kit.rehearsal.cloud.access import new_access_key
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local import ports

#: Below the ports that systems give away.
DEFAULT_PORT = 4570
_START_S, _STOP_S, _POLL_S = 60.0, 90.0, 0.05


def up(
    *,
    port: int = DEFAULT_PORT,
    region: str = "us-east-1",
    minute_s: float = 2.0,
    undone: str = "accepted",
    progress: Callable[[str], None] = lambda _: None,
) -> CloudSettings:
    """Start the cloud and wait until it answers. It begins empty.

    Args:
        port: Of all services; 0 takes a free one.
        region: The one that has endpoints.
        minute_s: Seconds that a minute of AWS's own waiting lasts (baking, cool-downs, periods of alarms);
            60 is AWS's.
        undone: What CloudFormation makes of an update of an endpoint that SageMaker has undone by itself;
            AWS does not say. ``accepted``: the stack is rolled back, and finds the endpoint as it was.
            ``refused``: rolling back asks for the configuration in use, and SageMaker refuses that; the stack
            ends in UPDATE_ROLLBACK_FAILED. ``unnoticed``: the stack takes it for a success.
        progress: Told each step.

    Raises:
        CloudError: it is up already, or the port is somebody else's, or it does not start.
    """
    # One command at a time starts a cloud.
    with folders.locked("cloud"):
        return _up(port, region, minute_s, undone, progress)


def _up(
    port: int, region: str, minute_s: float, undone: str, progress: Callable[[str], None]
) -> CloudSettings:
    existing = find()
    if existing is not None and process(existing) is not None:
        raise CloudError(
            f"the rehearsal cloud is up already, on {existing.url}; "
            "use it, or stop it with 'inf2kit cloud down'"
        )
    if existing is not None:
        progress("clearing what an earlier cloud has left; its state was in memory, and is gone")
        _clear(existing)
    if port and not ports.is_free(port):
        raise CloudError(f"port {port} is taken; give another one with --port, or --port 0 for any")
    run_dir = Path(tempfile.mkdtemp(prefix="inf2cloud-"))
    chosen = port or ports.choose_ports(1)[0]
    settings = CloudSettings(kept.folder(), run_dir, chosen, region, minute_s, new_access_key(), undone)
    settings.write()
    progress("starting")
    with settings.log.open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "inf2kit.rehearsal.cloud.server", str(settings.folder)],
            env={**_environment(), MARK: str(run_dir)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    settings = replace(settings, pid=started.pid)
    settings.write()
    deadline = time.monotonic() + _START_S
    try:
        while not kept.is_ready(settings):
            if started.poll() is not None or time.monotonic() > deadline:
                lines = settings.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise CloudError(
                    f"the rehearsal cloud did not start: {lines[-1] if lines else 'it said nothing'}; "
                    f"its log is {settings.folder.with_suffix('.log')}"
                )
            time.sleep(_POLL_S)
    except BaseException:
        down()
        raise
    return settings


def down() -> bool:
    """Stop the cloud, every endpoint and every process; false where there was none."""
    settings = find()
    if settings is None:
        return False
    running = process(settings)
    if running:
        with contextlib.suppress(psutil.Error):  # it may end by itself meanwhile
            running.send_signal(signal.SIGTERM)
            running.wait(_STOP_S)
    _clear(settings)
    return True


def find() -> CloudSettings | None:
    """The cloud of this home, running or left over."""
    return CloudSettings.read(kept.folder())


def running() -> CloudSettings:
    """The cloud that runs.

    Raises:
        CloudError: none does.
    """
    settings = find()
    if settings is None or process(settings) is None:
        raise CloudError("the rehearsal cloud is not up; start it with 'inf2kit cloud up'")
    return settings


def process(settings: CloudSettings) -> psutil.Process | None:
    """The cloud's living process, or None."""
    return processes.find_process(settings.pid, settings.run_dir)


def environment(settings: CloudSettings) -> dict[str, str]:
    """What makes cdk, boto3 and the aws command line talk to the cloud instead of AWS."""
    return {
        "AWS_ENDPOINT_URL": settings.url,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": ",".join(filter(None, ["127.0.0.1,localhost", os.environ.get("NO_PROXY", "")])),
        "CDK_DISABLE_CLI_TELEMETRY": "true",
    }


def unset() -> list[str]:
    """The variables that would lead the same programs elsewhere, every service's own endpoint among them."""
    services = [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")]
    return ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", *sorted(services)]


def _environment() -> dict[str, str]:
    """The user's own, without what would lead the cloud's own clients to AWS."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    own = {name: value for name, value in own.items() if not name.lower().endswith("_proxy")}
    return {
        **own,
        # Roles of CDK's bootstrap stack attach AWS's own policies.
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        # The C library would keep what parts of uploads have needed, once for each thread.
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": "262144",
    }


def _clear(settings: CloudSettings) -> None:
    """End what a killed cloud has left, and delete its folders but for its log."""
    processes.kill(settings.run_dir, nested=True)
    shutil.rmtree(settings.run_dir, ignore_errors=True)
    if settings.log.exists():
        shutil.copy2(settings.log, settings.folder.with_suffix(".log"))
    folders.delete(settings.folder)
