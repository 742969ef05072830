"""The README lists the open questions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import inf2kit
from inf2kit.verify.report import load_questions

ROOT = Path(inf2kit.__file__).parents[1]


def test_the_readme_lists_the_questions_that_no_device_has_answered() -> None:
    """An answer is a report in docs/device-reports."""
    reports = [
        json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("docs/device-reports/*.json")
    ]
    still_open = {
        name for name in load_questions() if all(name in report["open_questions"] for report in reports)
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    paragraph = readme[readme.index("answers what is still open") :].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", paragraph)) - {"inf2kit", "--questions"} == still_open
