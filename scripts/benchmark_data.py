"""Measure memory and speed of the data path: convert and stream generated images, each size in a process of its own.

python scripts/benchmark_data.py 1 8                 # gigabytes; the peak of 8 must be at most 1.1 times that of 1
python scripts/benchmark_data.py 0.25 1 --members 1  # one data set instead of a mixture
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SIDE = 224
LABELS = ("a", "b", "c")


class GeneratedImages:
    """Uncompressed colour images of random pixels, made as they are asked for."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def stamp(self) -> str:
        """Tell generated sets apart."""
        return f"generated {self.count} {self.seed}"

    def name(self, row: int) -> str:
        """Name a row."""
        return f"generated image {row}"

    def items(self, start: int) -> Iterator[bytes]:
        """Yield images."""
        for row in range(start, self.count):
            pixels = np.random.default_rng([self.seed, row]).bytes(SIDE * SIDE * 3)
            yield f"P6 {SIDE} {SIDE} 255\n".encode() + pixels


class AnonymousPeak(threading.Thread):
    """Watches the memory of this process that no file backs, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.running = 0.0, True

    def run(self) -> None:
        """Look every 50 ms."""
        while self.running:
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, int(status.partition("RssAnon:")[2].split()[0]) / 1024)
            time.sleep(0.05)


def measure(gigabytes: float, members: int, cache: str) -> None:
    """Convert and stream once in this process; print the figures as JSON."""
    from vitask.data import mix
    from vitask.data.options import DataOptions
    from vitask.data.records import Records, records_task

    watch = AnonymousPeak()
    watch.start()
    started = time.perf_counter()
    count = round(gigabytes * 1e9 / (SIDE * SIDE * 3) / members)

    def member(number: int):
        name = f"generated{number}"
        ids = [f"{name}-{row}" for row in range(count)]
        each = [[label] for label in LABELS]
        labels = [each[row % len(each)] for row in range(count)]
        records = Records(name, ids, ids, GeneratedImages(count, number), labels)
        return records_task(name, "noise", records, DataOptions(cache_dir=cache, fractions=(0.98, 0.01, 0.01)))

    tasks = [member(number) for number in range(members)]
    task = mix("mixture", tasks) if members > 1 else tasks[0]
    converted = time.perf_counter()
    converting = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    images = task.splits["train"]["image"]
    order = np.random.default_rng(0).permutation(len(images))
    total = sum(np.asarray(images[int(row)])[0, 0, 0] >= 0 for row in order)
    streamed = time.perf_counter()
    watch.running = False
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"gigabytes": gigabytes, "members": members, "images": count * members, "streamed": int(total)}
    speeds = {"convert_per_s": count * members / (converted - started), "stream_per_s": total / (streamed - converted)}
    print(json.dumps({**figures, "converting_mb": converting, "peak_mb": peak, "anonymous_mb": watch.peak, **speeds}))


def main() -> None:
    """Measure each size in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gigabytes", type=float, nargs="+")
    parser.add_argument("--members", type=int, default=4, help="data sets in the mixture")
    parser.add_argument("--cache", help="where the images go, and stay; by default a temporary folder")
    parser.add_argument("--here", action="store_true", help="measure in this process and print JSON")
    options = parser.parse_args()
    if options.here:
        measure(options.gigabytes[0], options.members, options.cache)
        return
    results = []
    for gigabytes in options.gigabytes:
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, __file__, str(gigabytes), f"--members={options.members}", "--here"]
            command += [f"--cache={options.cache or scratch}"]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(run.stdout.splitlines()[-1]))
            print(json.dumps(results[-1]), flush=True)
    first = results[0]
    for result in results[1:]:
        ratio = result["peak_mb"] / first["peak_mb"]
        print(f"peak of {result['gigabytes']:g} GB / {first['gigabytes']:g} GB: {ratio:.3f}")


if __name__ == "__main__":
    main()
