"""What the page says about a picture, in words for somebody on a ladder. Pure."""

from edge_agent.contracts.events import CameraFault
from edge_agent.sight import Move, Seen

_TURNED_DEGREES = 0.3
_GROWN_SHARE = 0.01

_ADVICE = {
    CameraFault.BLOCKED: "Something covers the lens. Take it away.",
    CameraFault.DARK: "Hardly any light. Switch the light on, or let the camera expose for longer.",
    CameraFault.OVEREXPOSED: "Most of the picture is white. Let the camera expose for a shorter time.",
    CameraFault.MOVED: "The camera looks elsewhere than in the reference picture. Turn it back.",
    CameraFault.FROZEN: "The picture has not changed at all for a minute. Start the camera again.",
    CameraFault.DEFOCUSED: "The picture is blurred. Turn the lens until the sharpness is at its best.",
    CameraFault.LOST: "The camera gives no picture. Check cable, power and address.",
}


def advice(fault: CameraFault) -> str:
    """Return what to do about a fault."""
    return _ADVICE[fault]


def place_words(seen: Seen | None) -> dict[str, object] | None:
    """Return where the shelf is, for JSON; None without a reference picture.

    The keys: `view` (aligned, moved, not found, hidden), `px` or null, and `text`.
    """
    if seen is None:
        return None
    if seen.placed is None:
        return {
            "view": "hidden",
            "px": None,
            "text": "Not looked for: first mend what is wrong with the picture.",
        }
    move = seen.move
    if move is None:
        text = "The shelf of the reference picture is not found. Bring it into the outlines."
        return {"view": "not found", "px": None, "text": text}
    return {"view": str(seen.placed.view), "px": round(move.px, 1), "text": _where(move)}


def _where(move: Move) -> str:
    parts = []
    if abs(move.right) >= 1:
        parts.append(f"{abs(move.right):.0f} px too far {'right' if move.right > 0 else 'left'}")
    if abs(move.down) >= 1:
        parts.append(f"{abs(move.down):.0f} px too {'low' if move.down > 0 else 'high'}")
    if abs(move.turn) >= _TURNED_DEGREES:
        parts.append(f"turned {abs(move.turn):.1f}° {'clockwise' if move.turn > 0 else 'counterclockwise'}")
    if abs(move.growth - 1) >= _GROWN_SHARE:
        size = abs(move.growth - 1)
        parts.append(f"{size:.0%} too {'large' if move.growth > 1 else 'small'}")
    return f"The shelf is {', '.join(parts)}." if parts else "The shelf is where it should be."
