"""Medians over the rounds, their ratios to ours, and the table of them."""

import math
import statistics

RECALL = 0.99
MEGABYTE = 1e6
ENDS = ((10, "proponents"), (100, "proponents"), (10, "opponents"))
# Column, its title, the factor to its unit, and whether more is better.
COLUMNS = (
    ("build_seconds", "build s", 1, False),
    ("disk_bytes", "disk MB", 1 / MEGABYTE, False),
    ("memory_bytes", "memory MB", 1 / MEGABYTE, False),
    ("heap_bytes", "heap MB", 1 / MEGABYTE, False),
    ("first_seconds", "first ms", 1000, False),
    ("top_10", "top-10 q/s", 1, True),
    ("top_100", "top-100 q/s", 1, True),
    ("bottom_10", "bottom-10 q/s", 1, True),
)


def middle(records, name):
    values = [record[name] for record in records if record.get(name) is not None]
    return statistics.median(values) if values else None


def summary(results, peers, data, threads):
    """One row a peer: its name, what was measured, and the same over the best of ours."""
    rows = []
    for peer in peers:
        of = {"data": data, "versions": peer.versions, "threads": threads}
        searches = results.of(peer=peer.name, kind="search", **of)
        row = {"peer": peer.name, "ours": peer.is_ours, "rounds": len({one["round"] for one in searches})}
        builds = results.of(peer=peer.built_by, kind="build", **of)
        row["build_seconds"], row["disk_bytes"] = middle(builds, "seconds"), middle(builds, "disk_bytes")
        row["first_seconds"] = middle(results.of(peer=peer.name, kind="first", **of), "seconds")
        for name in ("memory_bytes", "heap_bytes"):
            row[name] = max((one[name] for one in searches if one.get(name) is not None), default=None)
        row["ladders"] = {f"{k} {side}": ladder(searches, k, side) for k, side in ENDS}
        for name, (k, side) in zip(("top_10", "top_100", "bottom_10"), ENDS):
            row[name] = rate_at(row["ladders"][f"{k} {side}"], RECALL)
        rows.append(row)
    for name, _, _, more_is_better in COLUMNS:
        ours = [row[name] for row in rows if row["ours"] and row[name] is not None]
        best = (max if more_is_better else min)(ours, default=None)
        for row in rows:
            row[name + "_ratio"] = row[name] / best if best and row[name] is not None else None
    return rows


def ladder(searches, k, side):
    """Medians of recall and queries a second for each effort, least effort first."""
    own = [record for record in searches if (record["k"], record["side"]) == (k, side)]
    steps = []
    for effort in sorted({record["effort"] for record in own}, key=lambda effort: effort or 0):
        at = [record for record in own if record["effort"] == effort]
        steps.append({"effort": effort, "recall": middle(at, "recall"), "rate": middle(at, "rate")})
    return steps


def rate_at(steps, recall):
    """Queries a second where the ladder reaches `recall`: of the steps, and between two of them linear in recall and in
    the logarithm of the rate. None where it stays below."""
    rates = [step["rate"] for step in steps if step["recall"] >= recall]
    for low, high in zip(steps, steps[1:]):
        if low["recall"] < recall <= high["recall"]:
            part = (recall - low["recall"]) / (high["recall"] - low["recall"])
            logarithm = (1 - part) * math.log(low["rate"]) + part * math.log(high["rate"])
            rates.append(math.exp(logarithm))
    return max(rates, default=None)


def number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def show(title, rows, failures):
    print(f"\n{title}")
    print(f"queries a second (q/s) are those at a recall of {RECALL}; in brackets: over the best of ours")
    width = max([len(row["peer"]) for row in rows] + [4])
    print(" " * width + "".join(f"{title:>16}" for _, title, _, _ in COLUMNS))
    for row in rows:
        cells = ""
        for name, _, factor, _ in COLUMNS:
            value, ratio = row[name], row[name + "_ratio"]
            text = number(None if value is None else value * factor)
            cells += f"{text + ('' if ratio is None else f' ({number(ratio)})'):>16}"
        print(f"{row['peer']:<{width}}{cells}")
    for k, side in ENDS:
        ladders = {row["peer"]: row["ladders"][f"{k} {side}"] for row in rows}
        efforts = sorted({step["effort"] or 0 for steps in ladders.values() for step in steps})
        end = "highest" if side == "proponents" else "lowest"
        print(f"\nrecall and queries a second of the {k} {end}, by the length of the candidate list (ef); 0: no graph")
        print(" " * width + "".join(f"{effort:>16}" for effort in efforts))
        for peer, steps in ladders.items():
            cells = {step["effort"] or 0: f"{step['recall']:.4f} {step['rate']:>7.0f}" for step in steps}
            print(f"{peer:<{width}}" + "".join(f"{cells.get(effort, ''):>16}" for effort in efforts))
    for peer, reason in failures:
        print(f"{peer:<{width}} failed: {reason}")
