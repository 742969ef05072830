"""How an instance's log is read."""

from __future__ import annotations

import re
from pathlib import Path

from inf2kit.rehearsal.local.instance import LogSearch

LINE = b'  File "mms/model_loader.py", line 12, in load\n'


def test_each_byte_of_a_log_is_read_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    search = LogSearch(log, re.compile(r'mms/model_loader\.py", line \d+, in load'))
    assert not search.is_found(), "there is no log yet"
    log.write_bytes(b"starting\n" * 1000)
    assert not search.is_found()
    # What was read is not read again, so its loss is not seen.
    log.write_bytes(b"x" * 9000 + LINE[:20])
    assert not search.is_found()
    with log.open("ab") as file:
        file.write(LINE[20:])
    assert search.is_found(), "the line was written in two parts"
    assert not search.is_found()
