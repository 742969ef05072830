"""``make bench-peers``: build the servers that the benchmark compares with, in build/peers, once.

``transformers serve`` goes into a virtual environment of its own; llama.cpp's server is built, for this
processor, from the sources that the package llama-cpp-python carries (ten minutes and more; it needs a C++
compiler), and gets the embedded model's weights as float32.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from benchmarks.servers import PEERS
from inf2kit.rehearsal import model

TRANSFORMERS = "5.23.0"
LLAMA_CPP_PYTHON = "0.3.36"
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",  # it would be downloaded
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
}


def main() -> None:
    """Install and build what is missing."""
    PEERS.mkdir(parents=True, exist_ok=True)
    if not (PEERS / "transformers").exists():
        environment = PEERS / "transformers"
        _run(sys.executable, "-m", "venv", environment)
        torch = f"torch=={metadata.version('torch').partition('+')[0]}"
        _run(environment / "bin" / "pip", "install", "-q", torch, f"transformers[serving]=={TRANSFORMERS}")
    if not (PEERS / "llama-server").exists():
        _build_llama_cpp()
    if not (PEERS / "model-f32.gguf").exists():
        _write_float32(model.find_gguf(), PEERS / "model-f32.gguf")


def _build_llama_cpp() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        package = f"llama-cpp-python=={LLAMA_CPP_PYTHON}"
        _run(
            sys.executable, "-m", "pip", "download", "-q", package, "--no-binary", ":all:", "--no-deps",
            "-d", scratch,
        )  # fmt: skip
        (archive,) = scratch.glob("*.tar.gz")
        # tarfile's safe filters came with a patch release of Python; tar stays below its folder by itself.
        _run("tar", "-xf", archive, "-C", scratch)
        (source,) = scratch.glob("*/vendor/llama.cpp")
        _run(sys.executable, "-m", "venv", scratch / "tools")
        _run(scratch / "tools" / "bin" / "pip", "install", "-q", "cmake")
        cmake = scratch / "tools" / "bin" / "cmake"
        flags = [f"-D{name}={value}" for name, value in _OPTIONS.items()]
        _run(cmake, "-S", source, "-B", scratch / "build", *flags)
        _run(cmake, "--build", scratch / "build", "--target", "llama-server", "-j")
        shutil.move(scratch / "build" / "bin" / "llama-server", PEERS / "llama-server")


def _write_float32(source: Path, target: Path) -> None:
    """Copy a GGUF file with every tensor as float32, the precision of the other servers."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
    from gguf.quants import dequantize

    reader = GGUFReader(source)
    scratch = target.with_suffix(".new")
    writer = GGUFWriter(scratch, reader.fields["general.architecture"].contents())
    left_out = ("general.architecture", "general.file_type", "general.quantization_version")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in left_out:
            kind = field.types[0]
            items = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, items)
    writer.add_file_type(LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        shape = [int(size) for size in reversed(tensor.shape)]
        writer.add_tensor(tensor.name, values.reshape(shape), raw_dtype=GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    scratch.rename(target)


def _run(*command: str | Path) -> None:
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main()
