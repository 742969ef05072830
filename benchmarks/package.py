"""Packaging 2 GB to a local S3 (moto), against a plain parallel loop of boto3's ``upload_file``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from benchmarks.report import Report, Row
from benchmarks.servers import find_free_ports, wait_until_answered

_SHARDS, _SHARD_BYTES = 4, 500_000_000
_UPLOAD_FILE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import boto3
root = Path(sys.argv[1])
s3 = boto3.client("s3")
with ThreadPoolExecutor(10) as pool:
    files = [path for path in root.rglob("*") if path.is_file()]
    list(pool.map(lambda path: s3.upload_file(str(path), "bench", str(path.relative_to(root))), files))
"""


def measure_upload(report: Report, runs: int) -> None:
    """Measure speed, memory, and how much a killed run sends again."""
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as folder, local_aws() as environment:
        source = _write_weights(Path(folder) / "weights")
        upload_file = [sys.executable, "-c", _UPLOAD_FILE, str(source)]
        inf2kit_package = [
            sys.executable,
            "-m",
            "inf2kit.cli",
            "package",
            str(source),
            "--preset",
            "smollm2-135m-local",
        ]
        inf2kit_package += ["--output", "s3://bench/models"]
        environment["INF2KIT_HOME"] = f"{folder}/home"
        upload_file_speeds, package_speeds, peaks, resent = [], [], [], []
        megabytes = _SHARDS * _SHARD_BYTES / 1e6
        with report.section("a package of 2 GB to a local S3 (moto)") as rows:
            for _ in range(runs):
                _reset(environment)
                upload_file_speeds.append(megabytes / _run(upload_file, environment)[0])
                _reset(environment)
                seconds, peak = _run(inf2kit_package, environment)
                package_speeds.append(megabytes / seconds)
                peaks.append(peak)
                _reset(environment)
                resent.append(_resend_after_kill(inf2kit_package, environment))
            rows.append(Row("upload_file, 10 at a time", upload_file_speeds, "MB/s", decimals=0))
            rows.append(
                Row(
                    "inf2kit package",
                    package_speeds,
                    "MB/s",
                    against="upload_file",
                    reference=upload_file_speeds,
                    note="hashes everything too",
                    decimals=0,
                )
            )
            rows.append(Row("its peak memory", peaks, "MiB", decimals=0))
            rows.append(Row("sent again after a kill at half", resent, "MB", note="of 2,000", decimals=0))


def _write_weights(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}", encoding="utf-8")
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    names = [f"model-{shard}.safetensors" for shard in range(_SHARDS)]
    index = {"weight_map": dict(enumerate(names))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for name in names:
        header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (_SHARD_BYTES, _SHARD_BYTES)
        with (path / name).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for _ in range(_SHARD_BYTES // 10**6):
                file.write(os.urandom(10**6))
    return path


def _run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its seconds, and its peak memory in MiB."""
    began, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            # wait4 would count the memory of this process too, which was forked.
            match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
            peak = max(peak, int(match.group(1)) / 1024 if match else 0.0)
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        stderr.seek(0)
        assert process.returncode == 0, stderr.read().decode()
    return seconds, peak


def _resend_after_kill(command: list[str], environment: dict[str, str]) -> float:
    """Kill a run when it has sent half; return the megabytes that the next run sends."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(rb"1\.\d+ GB of", line):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    amount, unit = re.findall(r" of ([\d.]+) (GB|MB)", result.stderr)[-1]
    return float(amount) * (1e3 if unit == "GB" else 1)


@contextmanager
def local_aws() -> Iterator[dict[str, str]]:
    """Run a plain moto server; yield the environment of its clients."""
    (port,) = find_free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    try:
        wait_until_answered(lambda: urllib.request.urlopen(f"{url}/moto-api/data.json").close())
        yield {**os.environ, **keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}
    finally:
        process.kill()
        process.wait()


def _reset(environment: dict[str, str]) -> None:
    url = environment["AWS_ENDPOINT_URL"]
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
    boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    ).create_bucket(Bucket="bench")
