"""Draws what scripts/pareto.py has measured as an SVG: for each data set a panel, AUROC against time; two in a row."""

import math
import statistics

WIDTH, HEIGHT, GAP = 400, 320, 30
COLUMNS = 2
# No panel shows less of AUROC than this, so that what seeds alone change does not look like a difference.
LEAST_RANGE = 0.05
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 48
# Colours for a light page, and for a dark one where the viewer asks for it; the page itself shows through.
STYLE = """
text { font: 12px sans-serif; fill: #333 } .title { font-weight: bold } .axis, .grid { stroke: #999; fill: none }
.grid { stroke-opacity: 0.3 } .point { fill: #0969da } .whisker { stroke: #0969da; stroke-opacity: 0.6 }
.front { stroke: #bc4c00; stroke-dasharray: 5 4; fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .point { fill: #58a6ff } .whisker { stroke: #58a6ff } .front { stroke: #f0883e }
}
"""


def draw(panels, base):
    """`panels`: by title, points (name, ratio of time to `base`'s, AUROC of each seed)."""
    ratios = [ratio for points in panels.values() for _, ratio, _ in points]
    low, high = math.log2(min(ratios)) - 0.3, math.log2(max(ratios)) + 0.3
    columns, rows = min(COLUMNS, len(panels)), math.ceil(len(panels) / COLUMNS)
    width, height = columns * (WIDTH + GAP) - GAP, rows * (HEIGHT + GAP) - GAP
    corner = lambda place: (place % COLUMNS * (WIDTH + GAP), place // COLUMNS * (HEIGHT + GAP))
    parts = [panel(*titled, low, high, base, *corner(place)) for place, titled in enumerate(panels.items())]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">\n'
        f"<title>AUROC against time of a frame</title>\n<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def panel(title, points, low, high, base, x0, y0):
    aurocs = [auroc for _, _, values in points for auroc in values]
    levels = scale(min(aurocs), max(aurocs))
    bottom, top = levels[0], levels[-1]
    x = lambda ratio: LEFT + (math.log2(ratio) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    y = lambda auroc: HEIGHT - BOTTOM - (auroc - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)
    out = [f'<g transform="translate({x0} {y0})">', f'<text class="title" x="{LEFT}" y="18">{title}</text>']
    for level in levels:
        out.append(f'<path class="grid" d="M{LEFT} {y(level):.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(level) + 4:.1f}" text-anchor="end">{level:.3g}</text>')
    for ratio in (2.0**power for power in range(math.ceil(low), math.floor(high) + 1)):
        out.append(f'<path class="axis" d="M{x(ratio):.1f} {HEIGHT - BOTTOM}v4"/>')
        out.append(f'<text x="{x(ratio):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{ratio:g}</text>')
    out.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle">time of a frame, {base} = 1</text>')
    known = [(name, ratio, statistics.mean(values), min(values), max(values)) for name, ratio, values in points]
    front = [p for p in known if not any(q[1] < p[1] and q[2] >= p[2] for q in known)]
    line = " ".join(f"{x(p[1]):.1f},{y(p[2]):.1f}" for p in sorted(front, key=lambda p: p[1]))
    out.append(f'<polyline class="front" points="{line}"/>')
    for name, ratio, mean, least, most in known:
        out.append(f'<path class="whisker" d="M{x(ratio):.1f} {y(least):.1f}V{y(most):.1f}"/>')
        out.append(f'<circle class="point" cx="{x(ratio):.1f}" cy="{y(mean):.1f}" r="4.5"/>')
    out += labels([(name, x(ratio), y(mean)) for name, ratio, mean, _, _ in known])
    return "\n".join(out + ["</g>"])


def scale(least, most):
    """Levels at round numbers around what there is, none above 1."""
    missing = max(0, LEAST_RANGE - (most - least)) / 2
    least, most = least - missing - max(0, most + missing - 1), min(1, most + missing)
    step = next(n * 10.0**power for power in (-3, -2, -1) for n in (1, 2, 5) if (most - least) / (n * 10.0**power) <= 4)
    first, last = math.floor(least / step - 0.3), math.ceil(most / step + 0.3)
    return [i * step for i in range(first, last + 1) if i * step <= 1 + 1e-9]


def labels(points):
    """The names beside their points, each where it covers no other point's name."""
    out, taken = [], []
    for name, x, y in sorted(points, key=lambda p: p[1]):
        wide = 6.4 * len(name)
        ends = x + 6 + wide > WIDTH - 4
        left = x - 6 - wide if ends else x + 6
        at = next(
            (y + shift for shift in (-7, 17, -21, 31) if not any(
                abs(y + shift - other) < 13 and left < far and near < left + wide for near, far, other in taken)),
            y - 7,
        )
        taken.append((left, left + wide, at))
        anchor = ' text-anchor="end"' if ends else ""
        out.append(f'<text x="{x - 6 if ends else x + 6:.1f}" y="{at:.1f}"{anchor}>{name}</text>')
    return out
