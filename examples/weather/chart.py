"""The last step of the weather pipeline: draws a year as an SVG, with the standard library alone."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple, Protocol

from dotflow import Context, action

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 64, 796, 100, 412
RAIN, WARM, COOL = "#a9cce3", "#d1495b", "#2e6f95"
STYLE = """
    text { font: 13px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #55606b }
    .title { font-size: 22px; font-weight: 600; fill: #1f2933 }
    .grid { stroke: #e4e8ec }
    .base { stroke: #9aa5b1 }
    .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round }
    .dot { stroke: white; stroke-width: 1.5 }
"""


class Month(Protocol):
    """A row of the table: the month's name and its daily means, in millimetres and degrees Celsius."""

    name: str
    rain: float
    high: float
    low: float


class Axis(NamedTuple):
    """Maps values from *low* to *high* onto the height of the plot."""

    low: float
    high: float
    step: float

    def y(self, value: float) -> float:
        return BOTTOM - (value - self.low) / (self.high - self.low) * (BOTTOM - TOP)

    def ticks(self) -> list[float]:
        return [self.low + n * self.step for n in range(round((self.high - self.low) / self.step) + 1)]


CELSIUS = Axis(low=0, high=30, step=5)
MILLIMETRES = Axis(low=0, high=12, step=2)


@action
def draw(initial_context: Context, aggregate: list[list[Month]]) -> None:
    """Draws the months, the first of the tables, into the file that the initial context names."""
    svg = climate_chart("A year in Seattle", "Daily means of each month, 2012 to 2015", aggregate[0])
    initial_context.storage.write_text(svg, encoding="utf-8")


def climate_chart(title: str, subtitle: str, months: Sequence[Month]) -> str:
    """Rain as bars, highs and lows as lines."""
    slot = (RIGHT - LEFT) / len(months)
    middles = [LEFT + slot * (n + 0.5) for n in range(len(months))]
    shapes = [
        text(LEFT - 36, 40, title, kind="title"),
        text(LEFT - 36, 64, subtitle),
        *grid(),
        *(bar(x, slot * 0.6, month) for x, month in zip(middles, months, strict=True)),
        f'<line class="base" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>',
        *curve(WARM, [(x, CELSIUS.y(month.high)) for x, month in zip(middles, months, strict=True)]),
        *curve(COOL, [(x, CELSIUS.y(month.low)) for x, month in zip(middles, months, strict=True)]),
        *legend({"high, °C": WARM, "low, °C": COOL, "rain, mm a day": RAIN}),
    ]
    drawing = "\n  ".join(shapes)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">
  <title>{escape(title)}</title>
  <style>{STYLE}  </style>
  <rect width="100%" height="100%" fill="white"/>
  {drawing}
</svg>
"""


def grid() -> list[str]:
    shapes = [text(LEFT - 12, TOP - 14, "°C", anchor="end"), text(RIGHT + 12, TOP - 14, "mm")]
    for degrees, millimetres in zip(CELSIUS.ticks(), MILLIMETRES.ticks(), strict=True):
        y = CELSIUS.y(degrees)
        shapes += [
            f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            text(LEFT - 12, y + 4, f"{degrees:g}", anchor="end"),
            text(RIGHT + 12, y + 4, f"{millimetres:g}"),
        ]
    return shapes


def bar(x: float, width: float, month: Month) -> str:
    y = MILLIMETRES.y(month.rain)
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BOTTOM - y:.1f}" fill="{RAIN}">'
        f"<title>{escape(month.name)}: {month.rain:.1f} mm a day</title></rect>"
        + text(x, BOTTOM + 22, month.name, anchor="middle")
    )


def curve(colour: str, points: list[tuple[float, float]]) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points]
    return [f'<polyline class="line" stroke="{colour}" points="{path}"/>', *dots]


def legend(colours: dict[str, str]) -> list[str]:
    shapes = []
    for x, (label, colour) in zip((LEFT + 200, LEFT + 320, LEFT + 440), colours.items(), strict=True):
        shapes.append(f'<rect x="{x}" y="{HEIGHT - 28}" width="14" height="14" rx="3" fill="{colour}"/>')
        shapes.append(text(x + 22, HEIGHT - 16, label))
    return shapes


def text(x: float, y: float, content: str, *, kind: str = "label", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
