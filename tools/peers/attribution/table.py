"""The table of what was measured, as Markdown or JSON."""

import dataclasses
import datetime
import json
import platform

from results import OURS, RUNS, Results
from stages import PACKAGES, version

LINES_MAX = 24


def machine():
    """What the processor calls itself."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, one thread"


def share(value):
    """.123, without the 0 that tells nothing."""
    return f"{value:.3f}".replace("0.", ".", 1)


def with_interval(values):
    return f"{share(values[0])} ({share(values[1])} to {share(values[2])})" if values else ""


def seconds(value):
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if value * factor >= 1:
            break
    return f"{value * factor:.3g} {unit}"


def bytes_shown(value):
    if value == 0:
        return "0"
    return f"{value / 1024:.1f} KB" if value >= 1024 else f"{value:.0f}"


def shown(lines):
    """Of the variants of one method that differ in how the Fisher matrix was estimated, the better, for each number of runs."""
    best = {}
    for line in lines:
        kind = line.title.replace(", true Fisher", "").replace(", empirical Fisher", "")
        kept = best.setdefault(kind, {})
        if line.runs not in kept or line.lds[0] > kept[line.runs].lds[0]:
            kept[line.runs] = line
    return sorted(best.values(), key=lambda kept: -kept["five"].lds[0])[:LINES_MAX]


def taken(line):
    """How a peer's members were taken together."""
    return line.members if line.combined in ("own", "mean") or line.members != "both" else "both, standardised"


def markdown(results, setting, lines):
    task = results.task
    place = {"linear": "its linear layers", "all": "its linear layers and word table"}[setting]
    where = f"; {place}" if task.has_table else ""
    yield f"{task.title}{where}; {len(task.query_x)} queries; a perfect method would reach {share(results.truth.ceiling())}"
    yield ""
    yield "| | LDS, one run | ours less it | LDS, five runs | ours less it | checkpoints | fit | single query | of 200, a query | a row |"
    yield "| --- " * 10 + "|"
    for kept in shown(lines):
        one, five = (kept[runs] for runs in RUNS)
        title = f"**{one.title}**" if one.name == OURS else one.title
        again = " *" if one.figures["rereads"] else ""
        ways = taken(one) if taken(one) == taken(five) else f"{taken(one)}; {taken(five)}"
        cells = [title, *(with_interval(value) for value in (one.lds, one.difference, five.lds, five.difference))]
        cells += [ways, seconds(one.seconds("fit_s")), seconds(one.seconds("single_s")) + again]
        cells += [seconds(one.seconds("batch_s")), bytes_shown(five.figures["bytes_a_row"])]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def as_json(lines):
    for line in lines:
        told = dataclasses.asdict(line)
        del told["groups"]
        yield told


def show(stages, places, wants_json):
    """Prints the tables of (task, setting) of which anything was measured."""
    all_told = {}
    for task, setting in places:
        results = Results(stages, task)
        lines = results.lines(setting)
        if not lines:
            continue
        all_told[f"{task.name} {setting}"] = list(as_json(lines))
        if not wants_json:
            print("\n".join(markdown(results, setting, lines)))
    if wants_json:
        print(json.dumps(all_told, indent=1))
        return
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print("*: goes through the gradients of all rows again for each query (or batch). Times are of one run.")
    print(f"{datetime.date.today()}, {machine()}; {versions}")
