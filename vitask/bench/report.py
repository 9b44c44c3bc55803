"""The tables of a measurement, from what `bench` returns or its JSON holds; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from vitask.reporting.table import markdown

PLAIN, STOCK = "plain vanilla", "stock"
LEGEND = (
    f"Ratios to `{PLAIN}` (L_Van alone, cached image features, logits at the answer) and to `{STOCK}` (the step of "
    "transformers' Trainer: tower in every step, logits at every token): time as median (smallest to largest) of the "
    "rounds, forward and backward without the optimiser; FLOPs and bytes saved for the backward pass, counted."
)
SCORING_LEGEND = "Ratios to a prefill (the prompt alone, one logit) and to the trie; images encoded beforehand for all."
HOST_LEGEND = "What DataLoader workers do beside the step, for one batch."
UTILISATION_LEGEND = "Utilisation: counted FLOPs a second over those of a large matrix product on this card, just now."


def report(result: Mapping[str, Any]) -> str:
    """Lay out every part that was measured."""
    return "\n\n".join(_parts(result))


def _parts(result: Mapping[str, Any]) -> Iterator[str]:
    config, timed = result["config"], bool(result["training"][0]["seconds"])
    yield (
        f"{config['size']} ({result['parameters'] / 1e6:.4g} M parameters, {result['dtype']}), batch of "
        f"{config['batch_size']}, {_circumstances(result) if timed else 'counted without computing'}"
    )
    yield f"{_training(result['training'], timed)}\n{LEGEND}"
    if "scoring" in result:
        yield f"{_scoring(result['scoring'])}\n{SCORING_LEGEND}"
    if "host" in result:
        rows = [[row["name"], f"{1e3 * row['median']:.1f}"] for row in result["host"]]
        yield f"{markdown(['making a batch', 'ms'], rows)}\n{HOST_LEGEND}"
    if "throughput" in result:
        yield f"{_throughput(result['throughput'])}\n{UTILISATION_LEGEND}"


def _circumstances(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    threads = f", {machine['threads']} threads" if "threads" in machine else ""
    return f"{result['config']['repeats']} rounds on {machine['device']}: {machine['name']}{threads}"


def _training(records: list[dict[str, Any]], timed: bool) -> str:
    """Show one row a step: time if it was taken, FLOPs and saved bytes, and the peak where a GPU tells it."""
    on_gpu = any(record["peak_bytes"] is not None for record in records)
    header = ["training step", "stage"]
    header += [f"time / {PLAIN}", f"time / {STOCK}", "seconds"] if timed else []
    header += ["FLOPs / plain", "FLOPs / stock", "GFLOPs", "saved / plain", "saved MB"]
    header += ["peak / plain", "peak GB"] if on_gpu else []
    rows = []
    for record in records:
        plain, stock = record["ratios"][PLAIN], record["ratios"][STOCK]
        row = [record["name"], record["stage"]]
        if timed:
            row += [spread(plain["seconds"]), spread(stock["seconds"]), f"{median(record['seconds']):.3g}"]
        row += [f"{plain['flops']:.2f}", f"{stock['flops']:.2f}", f"{record['flops'] / 1e9:.4g}"]
        row += [f"{plain['saved_bytes']:.2f}", f"{record['saved_bytes'] / 1e6:.4g}"]
        row += [f"{plain['peak_bytes']:.2f}", f"{record['peak_bytes'] / 1e9:.3g}"] if on_gpu else []
        rows.append(row)
    return markdown(header, rows)


def _scoring(scoring: Mapping[str, Any]) -> str:
    bases = list(scoring["rows"][0]["ratios"])
    rows = [
        [
            row["name"],
            *(spread(row["ratios"][base]["seconds"]) for base in bases),
            f"{median(row['seconds']):.3g}",
            f"{row['ratios'][bases[0]]['flops']:.2f}",
        ]
        for row in scoring["rows"]
    ]
    header = ["scoring 10 labels", "time / prefill", "time / trie", "seconds", "FLOPs / prefill"]
    differences = (
        f"Trie and one forward a label differ by at most {scoring['largest_difference']:.1e} in a probability, "
        f"{scoring['largest_score_difference']:.1e} in a log-likelihood."
    )
    return f"{markdown(header, rows)}\n{differences}"


def _throughput(found: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{row['name']}{' (largest)' if row['batch_size'] == found['largest'][row['name']] else ''}",
            str(row["batch_size"]),
            f"{row['samples_per_second']:.4g}",
            f"{row['tokens_per_second']:.4g}",
            f"{row['utilisation']:.1%}",
            "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e9:.3g}",
        ]
        for row in found["rows"]
    ]
    header = ["throughput", "batch", "samples/s", "tokens/s", "utilisation", "peak GB"]
    return f"{markdown(header, rows)}\nMatrix product: {found['matmul_flops_per_second'] / 1e12:.4g} TFLOP/s."


def spread(found: Mapping[str, float]) -> str:
    """Show a ratio's median with its smallest and largest value.

    Example:
        >>> spread({"median": 1.05, "min": 1.0, "max": 1.1})
        '1.05 (1.00-1.10)'
    """
    return f"{found['median']:.2f} ({found['min']:.2f}-{found['max']:.2f})"
