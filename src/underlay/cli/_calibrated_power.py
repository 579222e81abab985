"""What a calibration found an engine to draw, for people and for programs; or why nothing was metered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from underlay.cli import _says

if TYPE_CHECKING:
    from underlay.live.calibration import Calibration, Drawn
    from underlay.physics.step_power import StepPower

#: Coefficients by their names in the profile, in words.
_WORDS = {
    "step_j": "each step",
    "token_j": "each token decoded",
    "pflop_j": "each PFLOP of prompts",
    "kv_gb_j": "each GB of KV cache read",
}


def load(each: Drawn) -> dict[str, Any]:
    """A load that was held, for programs; ``kind`` is idle, decode or prefill."""
    return {
        "kind": _kind(each),
        "decode_sequences": each.load.sequences,
        "prompt_tokens": each.load.prompt_tokens,
        "held_out": each.load.held_out,
        "metered_w": each.power_w,
        "modelled_w": each.modelled_w,
        "turns": each.turns,
    }


def told(found: Calibration) -> list[str]:
    """Lines for people."""
    power = found.line.power
    if power is None:
        return ["", f"what it draws is not known: {found.unmetered}"]
    shown = [each for each in found.drawn if _kind(each) != "idle" or not power.above_idle]
    return [
        "",
        _says.table(
            ["it draws", "decoding", "prompts of", "metered", "modelled", "off", ""], list(map(_row, shown))
        ),
        "",
        _says.table(["joules of", "", "standard error"], _coefficients(power)),
        "",
        f"metered by {power.meter} ({power.method}): {power.boundary}",
        f"a stretch's joules are {power.error_mean:.1%} off on average, against {power.against}{_band(power)}",
        _idle(power),
    ]


def _kind(each: Drawn) -> str:
    if each.load.sequences:
        return "decode"
    return "prefill" if each.load.prompt_tokens else "idle"


def _row(each: Drawn) -> list[str]:
    modelled_w = each.modelled_w
    return [
        _kind(each),
        str(each.load.sequences or ""),
        str(each.load.prompt_tokens or ""),
        f"{each.power_w:.3g} W",
        "" if modelled_w is None else f"{modelled_w:.3g} W",
        "" if modelled_w is None or not each.power_w else f"{modelled_w / each.power_w - 1:+.1%}",
        "held out" if each.load.held_out else "",
    ]


def _coefficients(power: StepPower) -> list[list[str]]:
    off = power.standard_error
    return [
        [
            words,
            f"{getattr(power.joules, name):.4g} J",
            "unknown, too few loads" if off is None else f"{getattr(off, name):.2g} J",
        ]
        for name, words in _WORDS.items()
    ]


def _band(power: StepPower) -> str:
    if power.meter_error is None:
        return "; what the meter itself is off by nobody knows"
    return f"; the meter itself may be off by {power.meter_error:.0%}"


def _idle(power: StepPower) -> str:
    if power.idle_w is not None:
        off = "" if power.idle_off_w is None else f" ± {power.idle_off_w:.2g} W"
        return f"idle with the model loaded: {power.idle_w:.4g} W{off}"
    if power.above_idle:
        return "idle power is not known: it is outside of this meter's boundary; what waits takes no processor time"
    return "idle power is not known: the meters could not be read while nothing ran"
