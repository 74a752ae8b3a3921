"""Checks an ONNX file in a child process: a file that hangs, crashes or eats memory takes only the child with it.

The child (`python -m services.registry.adapters.models_onnx FILE`) reads rows as JSON from stdin and answers in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.registry.errors import BadModel, CheckUnavailable
from services.registry.ports import Inspection, Tensor

MAX_MEMORY_BYTES = 8 * 1024**3  # address space of the child, not what it touches


class OnnxInspector:
    """The ModelInspector; one check at a time."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._turn = asyncio.Semaphore(1)

    async def inspect(self, model: bytes, rows: Mapping[str, Sequence[Any]]) -> Inspection:
        """As ModelInspector.inspect. Raises BadModel, CheckUnavailable."""
        async with self._turn:
            with tempfile.TemporaryDirectory(prefix="millrace-model-") as folder:
                path = Path(folder) / "model.onnx"
                await asyncio.to_thread(path.write_bytes, model)
                answer = await self._ask(path, json.dumps(dict(rows)).encode())
        if "error" in answer:
            raise BadModel(f"the model does not load or score: {answer['error']}")
        tensors = tuple(Tensor(**tensor) for tensor in answer["inputs"])
        return Inspection(tensors, Tensor(**answer["output"]), tuple(answer["outputs"]))

    async def _ask(self, path: Path, rows: bytes) -> dict[str, Any]:
        arguments = (sys.executable, "-m", "services.registry.adapters.models_onnx", str(path))
        try:
            child = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise CheckUnavailable(f"the check could not be started: {error}") from error
        try:
            out, err = await asyncio.wait_for(child.communicate(rows), self._timeout_s)
        except TimeoutError:
            raise BadModel(f"the model was not loaded and scored within {self._timeout_s:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            last = err.decode(errors="replace").strip().splitlines()[-1:]
            raise BadModel(f"the check of the model ended with status {child.returncode}: {' '.join(last)}")
        answer: dict[str, Any] = json.loads(out)
        return answer


def main(path: str) -> None:
    """The child: one JSON object on stdout; a model's own failure is the key `error`."""
    _limit_memory()
    rows = json.load(sys.stdin)
    try:
        answer = _load_and_score(path, rows)
    except Exception as error:
        answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
    json.dump(answer, sys.stdout)


def _load_and_score(path: str, rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, output = session.get_inputs(), session.get_outputs()[0]
    feeds = {}
    for tensor in inputs:
        values = rows.get(tensor.name)
        if values is None:
            break
        if tensor.type == "tensor(string)":
            feeds[tensor.name] = np.array(["" if v is None else str(v) for v in values], dtype=object)
        else:
            feeds[tensor.name] = np.array([np.nan if v is None else v for v in values], dtype=np.float32)
    scored = session.run([output.name], feeds)[0] if len(feeds) == len(inputs) else []
    return {
        "inputs": [_tensor(tensor) for tensor in inputs],
        "output": _tensor(output),
        # NaN and infinity are not JSON: the answer names them, and the caller refuses them.
        "outputs": [float(v) for v in np.ravel(scored)],
    }


def _tensor(node: Any) -> dict[str, Any]:
    return {"name": node.name, "type": node.type, "dimensions": len(node.shape)}


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on this system: the timeout remains
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main(sys.argv[1])
