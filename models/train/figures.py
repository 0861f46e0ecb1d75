"""Writes the figures of manifest.toml into the README beside it, between its marks.

    python figures.py models
"""
import os
import sys
import tomllib

BEGIN, END = "<!-- figures -->", "<!-- end -->"


def percent(value):
    return f"{100 * value:.1f} %"


def ratio(value):
    return f"{value:.3f}"


def row(metric):
    shown = ratio if "Dice" in metric["what"] or "IoU" in metric["what"] else percent
    count = f" ({metric['count']})" if "count" in metric else ""
    interval = " to ".join(shown(end) for end in metric.get("interval", []))
    return f"| {metric['what']} | {shown(metric['value'])}{count} | {interval} | {shown(metric['f32'])} |"


def table(model):
    head = f"**{model['name']}**, int8, {model['metric'][0]['on']}:"
    return "\n".join([head, "", "| | int8 | 95 % interval | f32 |", "|---|---|---|---|", *map(row, model["metric"])])


if __name__ == "__main__":
    folder = sys.argv[1]
    with open(os.path.join(folder, "manifest.toml"), "rb") as f:
        models = tomllib.load(f)["model"]
    readme = os.path.join(folder, "README.md")
    with open(readme) as f:
        before, rest = f.read().split(BEGIN)
    after = rest.split(END)[1]
    with open(readme, "w") as f:
        f.write(before + BEGIN + "\n" + "\n\n".join(map(table, models)) + "\n" + END + after)
