"""What a run on both engines says of its sample, as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.sample_words import coverage, differences
from sqlstable.trace.format.estimating import CONFIDENCE, margin_of


def sampling(trace: TraceSource) -> Mapping[str, Any] | None:
    """Return what was measured of how many, how far the sum may be off, and what was not measured.

    Returns:
        None where one engine alone ran.
    """
    blocks = trace.summary.blocks
    if not blocks:
        return None
    shapes = coverage(blocks)
    reasons: dict[str, int] = {}
    for block in blocks:
        reason = block.group.reason
        if reason:
            reasons[reason] = reasons.get(reason, 0) + block.messages - block.measured
    return {
        "messages": sum(it.messages for it in blocks),
        "measured": sum(it.measured for it in blocks),
        "estimated": sum(it.estimated for it in blocks),
        "instructions": sum(it.instructions for it in shapes),
        "margin": round(margin_of(blocks)),
        "confidence": CONFIDENCE,
        "not_measured": [
            {"reason": reason, "messages": messages} for reason, messages in reasons.items()
        ],
        "shapes": [asdict(it) for it in shapes],
        "differences": list(differences(trace)),
    }
