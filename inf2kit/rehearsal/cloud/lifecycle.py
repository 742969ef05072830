"""Start, find and stop the rehearsal cloud."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from inf2kit.client.local import MARK
from inf2kit.errors import CloudError
from inf2kit.rehearsal import folders
from inf2kit.rehearsal.cloud.access import new_access_key
from inf2kit.rehearsal.cloud.settings import RUN_DIR_PREFIX, SECRET, CloudSettings, folder, is_ready
from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local import ports

#: Below the ephemeral ports of Linux and macOS.
DEFAULT_PORT = 4570
_START_S, _STOP_S, _POLL_S = 60.0, 90.0, 0.05


def up(
    *,
    port: int = DEFAULT_PORT,
    region: str = "us-east-1",
    minute_s: float = 2.0,
    undone: str = "accepted",
    quotas: Mapping[str, int] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> CloudSettings:
    """Start an empty cloud and wait until it answers.

    Args:
        port: The port of all services; 0 takes a free one.
        region: The region that has endpoints.
        minute_s: Seconds that one minute of AWS's deliberate waits takes (baking, cool-downs, periods of
            alarms); 60 is real time.
        undone: What CloudFormation does when SageMaker has rolled an endpoint update back; AWS does not
            document it. ``accepted``: the stack rolls back too, and finds the endpoint as it was.
            ``refused``: the stack's rollback asks for the configuration in use, SageMaker refuses that, and
            the stack ends in UPDATE_ROLLBACK_FAILED. ``unnoticed``: the stack reports a success.
        quotas: Number of instances for endpoints that the account may have, by instance type; types that are
            not in it have 0. None is no limit.
        progress: Called with the name of each step.

    Raises:
        CloudError: the cloud is up already, the port is taken, or the server does not start.
    """
    with folders.locked("cloud"):
        return _up(port, region, minute_s, undone, quotas, progress)


def _up(
    port: int,
    region: str,
    minute_s: float,
    undone: str,
    quotas: Mapping[str, int] | None,
    progress: Callable[[str], None],
) -> CloudSettings:
    existing = find()
    if existing is not None and process(existing) is not None:
        raise CloudError(
            f"the rehearsal cloud is up already, on {existing.url}; "
            "use it, or stop it with 'inf2kit cloud down'"
        )
    if existing is not None:
        progress("removing the remains of an earlier cloud; its state was in memory and is lost")
        _clear(existing)
    if port and not ports.is_free(port):
        raise CloudError(
            f"port {port} is taken; choose another with --port, or let --port 0 choose a free one"
        )
    run_dir = Path(tempfile.mkdtemp(prefix=RUN_DIR_PREFIX))
    settings = CloudSettings(
        folder(),
        run_dir,
        port or ports.choose_ports(1)[0],
        region,
        minute_s,
        new_access_key(),
        undone,
        quotas,
    )
    settings.write()
    progress("starting")
    with settings.log.open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "inf2kit.rehearsal.cloud.server", str(settings.folder)],
            env={**_environment(), MARK: str(run_dir)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    settings = replace(settings, pid=server.pid)
    settings.write()
    deadline = time.monotonic() + _START_S
    try:
        while not is_ready(settings):
            if server.poll() is not None or time.monotonic() > deadline:
                lines = settings.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise CloudError(
                    f"the rehearsal cloud did not start: {lines[-1] if lines else 'its log is empty'}; "
                    f"see {settings.folder.with_suffix('.log')}"
                )
            time.sleep(_POLL_S)
    except BaseException:
        down()
        raise
    return settings


def down() -> bool:
    """Stop the cloud with all its endpoints and processes; return False if there was none."""
    settings = find()
    if settings is None:
        return False
    server = process(settings)
    if server:
        with contextlib.suppress(psutil.Error):  # it may end meanwhile
            server.send_signal(signal.SIGTERM)
            server.wait(_STOP_S)
    _clear(settings)
    return True


def find() -> CloudSettings | None:
    """Find the cloud of this home, running or not; None if there is none."""
    return CloudSettings.read(folder())


def running() -> CloudSettings:
    """Return the settings of the running cloud.

    Raises:
        CloudError: no cloud runs.
    """
    settings = find()
    if settings is None or process(settings) is None:
        raise CloudError("the rehearsal cloud is not up; start it with 'inf2kit cloud up'")
    return settings


def process(settings: CloudSettings) -> psutil.Process | None:
    """Return the cloud's server process; None if it has ended."""
    return processes.find_process(settings.pid, settings.run_dir)


def environment(settings: CloudSettings) -> dict[str, str]:
    """Return the variables that make cdk, boto3 and the aws command line call the cloud instead of AWS."""
    return {
        "AWS_ENDPOINT_URL": settings.url,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": ",".join(filter(None, ["127.0.0.1,localhost", os.environ.get("NO_PROXY", "")])),
        "CDK_DISABLE_CLI_TELEMETRY": "true",
    }


def unset() -> list[str]:
    """Name the variables to unset, since they take precedence: profiles and endpoints of single services."""
    services = [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")]
    return ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", *sorted(services)]


def _environment() -> dict[str, str]:
    """Return the server's environment: the user's, without AWS's variables and proxies."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_") and not name.lower().endswith("_proxy")
    }
    return {
        **variables,
        # Roles of CDK's bootstrap stack attach AWS's managed policies.
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        # Otherwise glibc keeps the memory of uploaded parts in one arena per thread.
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": "262144",
    }


def _clear(settings: CloudSettings) -> None:
    """Kill the cloud's processes and delete its folders; its log is kept beside them."""
    processes.kill(settings.run_dir, nested=True)
    shutil.rmtree(settings.run_dir, ignore_errors=True)
    if settings.log.exists():
        shutil.copy2(settings.log, settings.folder.with_suffix(".log"))
    folders.delete(settings.folder)
