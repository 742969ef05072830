"""``inf2kit cloud`` in a user's shell."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.cloud import BIN


def inf2kit(home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "HOME": str(home), "INF2KIT_HOME": str(home), **more}
    command = [str(BIN / "inf2kit"), "cloud", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_shell_evaluates_env(cloud: CloudSettings, home: Path) -> None:
    elsewhere = {"AWS_PROFILE": "mine", "AWS_ENDPOINT_URL_APPLICATION_AUTO_SCALING": "http://127.0.0.1:9"}
    script = inf2kit(home, "env", **elsewhere).stdout
    shown = subprocess.run(
        ["/bin/sh", "-c", f'{script}\necho "$AWS_ENDPOINT_URL $AWS_REGION ${{AWS_PROFILE-none}}"; env'],
        env={**elsewhere, "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith(f"{cloud.url} us-east-1 none\n")
    assert "AWS_ENDPOINT_URL_" not in shown, "no service has an endpoint of its own"


def test_status_and_logs(cloud: CloudSettings, home: Path) -> None:
    assert cloud.url in inf2kit(home, "status").stdout
    assert "listens on" in inf2kit(home, "logs").stdout
    nobody = inf2kit(home, "logs", "nobody")
    assert nobody.returncode == 1
    assert nobody.stderr == "Error: no container of 'nobody' has a log; see 'inf2kit cloud status'\n"


def test_a_home_has_one_cloud(cloud: CloudSettings, home: Path) -> None:
    again = inf2kit(home, "up")
    assert again.returncode == 1
    assert again.stderr.startswith(f"Error: the rehearsal cloud is up already, on {cloud.url}")


def test_settings_of_another_release_are_read(cloud: CloudSettings, tmp_path: Path) -> None:
    known = json.loads((cloud.folder / "cloud.json").read_text(encoding="utf-8"))
    folder = tmp_path / "cloud"
    folder.mkdir()
    for values in ({**known, "something_new": 1}, {key: known[key] for key in known if key != "access_key"}):
        (folder / "cloud.json").write_text(json.dumps(values), encoding="utf-8")
        status = inf2kit(tmp_path, "logs")
        assert "Traceback" not in status.stderr
        assert "listens on" in status.stdout
    for broken in ("[]", '{"port": 1}', "{"):
        (folder / "cloud.json").write_text(broken, encoding="utf-8")
        status = inf2kit(tmp_path, "status")
        assert status.stderr == "Error: the rehearsal cloud is not up; start it with 'inf2kit cloud up'\n"


def test_without_a_cloud_every_command_says_so(tmp_path: Path) -> None:
    for words in (["env"], ["status"], ["logs"]):
        result = inf2kit(tmp_path, *words)
        assert result.returncode == 1
        assert result.stderr == ("Error: the rehearsal cloud is not up; start it with 'inf2kit cloud up'\n")
    assert inf2kit(tmp_path, "down").stdout == "there is no rehearsal cloud\n"


def test_down_says_that_a_shell_still_calls_the_cloud(tmp_path: Path) -> None:
    assert inf2kit(tmp_path, "up", "--port", "0", "--quota", "ml.inf2.xlarge=0").returncode == 0
    wrong = inf2kit(tmp_path, "up", "--quota", "ml.inf2.xlarg=1")
    assert "it must be INSTANCE=NUMBER, such as ml.inf2.xlarge=1" in wrong.stderr
    lines = inf2kit(tmp_path, "env").stdout.splitlines()
    (url,) = [line.partition("=")[2] for line in lines if line.startswith("export AWS_ENDPOINT_URL=")]
    down = inf2kit(tmp_path, "down", AWS_ENDPOINT_URL=url)
    assert down.stdout == "the rehearsal cloud is stopped\n"
    assert down.stderr.startswith("this shell still calls it; run: unset AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID ")
