"""What a calibration found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from underlay.cli import _calibrated_power, _says

if TYPE_CHECKING:
    from underlay.live.calibration import Calibration, Sample, Server

#: Above it, the machine was too busy with other work for a profile that is worth keeping.
NOISE_MAX = 0.05


def fields(server: Server, found: Calibration, written: Sequence[Path]) -> dict[str, Any]:
    """Everything, for programs; ``profile`` is what the file holds."""
    import msgspec

    return {
        "profile": msgspec.to_builtins(found.line),
        "engine": {
            "kind": server.kind,
            "slots": server.slots,
            "step_tokens": server.step_tokens,
            "context_tokens": server.context_tokens,
        },
        "points": [_point(found, point) for point in found.points],
        "errors": {
            "fitted": {name: off._asdict() for name, off in found.fitted.items()},
            "held_out": {name: off._asdict() for name, off in found.held_out.items()},
        },
        "noise": None if found.noise != found.noise else found.noise,  # JSON has no NaN
        "request_overhead_ms": found.overhead_s * 1e3,
        "loads": [_calibrated_power.load(each) for each in found.drawn],
        "unmetered": found.unmetered or None,
        "output": str(written[0]) if written else None,
        "written": [str(path) for path in written],
    }


def told(server: Server, found: Calibration, written: Sequence[Path]) -> str:
    """The tables, for people."""
    line = found.line
    valid = line.valid
    parts = [
        "",
        f"{line.model} {line.precision} on {line.accelerator}",
        f"{server.slots} slots, {server.step_tokens:,} tokens a step",
        "",
        _says.table(["decoding", "context", "prompt", "after", "measured", "fitted", "off", ""], _points(found)),
        "",
        _says.table(["a step takes", ""], _coefficients(found)),
        "",
        _says.table(["steps", "", "points", "half within", "95 % within"], _errors(found)),
        "",
        (
            f"holds up to {valid.decode_sequences} decoding sequences, {valid.step_tokens:,} tokens in a step, "
            f"{valid.context_tokens:,} tokens of context"
        ),
        *_calibrated_power.told(found),
        "",
        *_warnings(found),
        *([f"written to {path}" for path in written] or ["nothing was written: --output FILE keeps it"]),
    ]
    return "\n".join(parts)


def _point(found: Calibration, point: Sample) -> dict[str, Any]:
    from underlay.live.calibration import kind, predicted_s

    return {
        "kind": kind(point),
        "held_out": point.held_out,
        "decode_sequences": point.sequences,
        "kv_tokens": point.kv_tokens,
        "prompt_tokens": point.prompt_tokens,
        "cached_tokens": point.cached_tokens,
        "measured_ms": point.step_s * 1e3,
        "fitted_ms": predicted_s(found.line.coefficients(), point) * 1e3,
    }


def _points(found: Calibration) -> list[list[str]]:
    rows = []
    for point in sorted(found.points, key=lambda p: (p.sequences, p.prompt_tokens, p.kv_tokens, p.cached_tokens)):
        told_of = _point(found, point)
        measured_ms, fitted_ms = told_of["measured_ms"], told_of["fitted_ms"]
        rows.append(
            [
                str(point.sequences),
                f"{point.kv_tokens / point.sequences:.0f}" if point.sequences else "",
                str(point.prompt_tokens or ""),
                str(point.cached_tokens or ""),
                f"{measured_ms:.1f} ms",
                f"{fitted_ms:.1f} ms",
                f"{fitted_ms / measured_ms - 1:+.1%}",
                "held out" if point.held_out else "",
            ]
        )
    return rows


def _coefficients(found: Calibration) -> list[list[str]]:
    line = found.line
    decode = ", ".join(f"{n}: {ms:.2f}" for n, ms in zip(line.decode_sequences, line.decode_ms, strict=True))
    mixed = ", ".join(f"{n}: {ms:.2f}" for n, ms in zip(line.mixed_tokens, line.mixed_ms, strict=True))
    return [
        ["decoding only, by sequences", f"{decode} ms"],
        ["if anybody decodes", f"{line.decode_fixed_ms:.2f} ms"],
        ["for each who decodes", f"{line.decode_sequence_us / 1e3:.2f} ms"],
        ["for 1,000 tokens of their context", f"{line.decode_kv_token_ns / 1e3:.3f} ms"],
        ["with a prompt, by tokens", f"{mixed} ms"],
        ["for each token of a prompt", f"{line.prefill_token_us / 1e3:.3f} ms"],
        ["for a million pairs of its tokens", f"{line.prefill_pair_ns:.2f} ms"],
        ["prompts are slower by each who decodes", f"{line.mixed_slowdown:.1%}"],
    ]


def _errors(found: Calibration) -> list[list[str]]:
    return [
        [name, which, str(off.points), f"{off.median:.1%}", f"{off.p95:.1%}"]
        for which, errors in (("fitted", found.fitted), ("held out", found.held_out))
        for name, off in errors.items()
    ]


def _warnings(found: Calibration) -> list[str]:
    if found.noise > NOISE_MAX:
        return [f"warning: measured again, the same step took {found.noise:.0%} more or less; is the machine busy?"]
    return []
