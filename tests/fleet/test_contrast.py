"""WCAG AA of every colour that text may have, on every surface it may stand on, in both themes.

axe-core sees what a page happens to show; a robot that stops shows a colour it never saw.
"""

import re
from pathlib import Path

import pytest

CSS = Path(__file__).resolve().parents[2] / "static" / "css"
AA = 4.5
TEXTS = (
    "text",
    "muted",
    "faint",
    "accent",
    "autonomous",
    "human",
    "holding",
    "stopped",
    "help",
    "offline",
)
SURFACES = ("bg", "surface", "raised", "sunken")
TOKENS = {
    name: themes
    for name, *themes in re.findall(
        r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", (CSS / "tokens.css").read_text()
    )
}
(TINT,) = re.findall(r"\.chip \{.*?\) (\d+)%, transparent", (CSS / "components.css").read_text())

Colour = tuple[float, ...]


def colour(token: str, theme: int) -> Colour:
    text = TOKENS[token][theme]
    return tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))


def over(front: Colour, back: Colour, share: float) -> Colour:
    return tuple(share * x + (1 - share) * y for x, y in zip(front, back, strict=True))


def luminance(of: Colour) -> float:
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in of]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) == pytest.approx(21)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("series", [name for name in TOKENS if name.startswith("series-")])
def test_the_name_of_a_line_can_be_read_in_its_colour(series: str, theme: int) -> None:
    for surface in SURFACES:
        assert contrast(colour(series, theme), colour(surface, theme)) >= AA, surface


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("text", TEXTS)
def test_text_can_be_read_on_every_surface_and_in_its_own_chip(text: str, theme: int) -> None:
    for surface in SURFACES:
        back = colour(surface, theme)
        front = colour(text, theme)
        assert contrast(front, back) >= AA, surface
        assert contrast(front, over(front, back, int(TINT) / 100)) >= AA, f"chip on {surface}"
