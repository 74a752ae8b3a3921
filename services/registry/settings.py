"""The registry's knobs."""

from __future__ import annotations

from millrace.runtime.settings import RoomSettings, knob


class Settings(RoomSettings):
    """Shared settings and the registry's own."""

    artifact_max_mb: int = knob(
        512,
        "registry",
        "artifact_max_mb",
        "Largest artifact taken in, megabytes: bounds memory and disk per upload.",
        ge=1,
    )
    inspect_timeout_s: float = knob(
        60.0, "registry", "inspect_timeout_s", "Wall time that the check of one ONNX file may take.", gt=0
    )
    guard_check_s: float = knob(
        5.0, "registry", "guard_check_s", "How often guards of wall-clock projects are looked at, wall time.", gt=0
    )
