"""What every backend shares: which errors of a load may be over in a moment, and what a device refuses."""

from __future__ import annotations

import errno

import pytest

from inf2kit.serving.engine.backend import is_transient


def chained(cause: Exception, *, hidden: bool = False) -> Exception:
    """An error as libraries raise it in place of another one."""
    try:
        try:
            raise cause
        except Exception:
            if hidden:
                raise OSError("Can't load the tokenizer") from None
            raise OSError("Can't load the tokenizer")  # noqa: B904 - as transformers does
    except OSError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOMEM, "Cannot allocate memory", "model.safetensors"), True),
        (OSError(errno.EIO, "Input/output error", "model.safetensors"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (Exception("Error while deserializing: Input/output error (os error 5)"), True),
        (Exception("Error while deserializing: No such file or directory (os error 2)"), False),
        (chained(OSError(errno.EIO, "Input/output error")), True),
        (chained(MemoryError()), True),
        (chained(FileNotFoundError(errno.ENOENT, "No such file", "x")), False),
        (chained(ValueError("Expecting value: line 1 column 1 (char 0)")), False),
        (chained(OSError(errno.EIO, "Input/output error"), hidden=True), False),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), False),
        (ValueError("invalid literal"), False),
        (KeyError("vocab_size"), False),
    ],
)
def test_a_lack_of_memory_and_a_failing_disk_may_be_over_and_a_wrong_file_is_not(
    error: Exception, expected: bool
) -> None:
    assert is_transient(error) is expected
