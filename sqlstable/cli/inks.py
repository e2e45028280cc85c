"""Colours that can be read on black and on white, on a screen and on a projector.

Each has a contrast of at least 4.5 to 1 with both, as the Web Content Accessibility Guidelines ask
of text; on both at once no colour has more than 4.58. A terminal
of 256 colours shows the nearest that it has. None of them says anything that the
characters do not say as well.
"""

from typing import Final

BLUE: Final = "#0078ce"
GREEN: Final = "#1d8742"
GREY: Final = "#767676"
ORANGE: Final = "#bd5900"
PURPLE: Final = "#a650c6"
RED: Final = "#da3636"

INKS: Final = (BLUE, GREEN, GREY, ORANGE, PURPLE, RED)
