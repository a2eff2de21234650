"""Images a second of inference, and what each engine's answer is worth, on a trained fold.

    python tests/benchmarks/predict.py --experiment FILE [--set key.sub=value ...] [--model M] [--fold K]

After a run of the experiment. Each engine predicts the same held-out images, without mirroring; the notebook's
loop is fp32 in NCHW order. Dice is at the network's size. The engines take turns; the fastest round counts.
"""

import argparse
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline.artifacts import Artifacts
from pipeline.config import load_experiment
from pipeline.data.cache import CachePaths, open_small, read_folds
from pipeline.learning.engines import choose_engines
from pipeline.learning.hardware import best_device, choose_precision
from pipeline.learning.networks import load_network
from pipeline.learning.training import mask_dice
from pipeline.postprocess import HALF

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", type=Path, required=True)
    parser.add_argument("--set", action="append", dest="overrides")
    parser.add_argument("--model", help="the experiment's first one, unless given")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    settings = load_experiment(arguments.experiment, arguments.overrides)
    artifacts = Artifacts.of(settings)
    model = arguments.model or next(iter(settings.models))
    weights = artifacts.fold(model, arguments.fold).weights
    folds = read_folds(artifacts)["fold"].to_numpy()
    rows = np.flatnonzero(folds == arguments.fold)[: arguments.images]
    cache = CachePaths(artifacts.cache)
    images = torch.from_numpy(open_small(cache.images("train"))[rows]).permute(0, 3, 1, 2).contiguous()
    truth = torch.from_numpy(open_small(cache.masks)[rows]).permute(0, 3, 1, 2) >= HALF

    device, precision = best_device(), choose_precision("auto", best_device())
    notebook = load_network(weights).to(device)

    def plain(batch: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return notebook(batch.to(device)).float()

    computes = {"notebook, fp32 NCHW": plain}
    for wanted in ("torch", "openvino", "onnxruntime") if device.type == "cpu" else ("torch",):
        (engine,) = choose_engines(load_network(weights), wanted, [images[:BATCH]], 2**31, device, precision)
        computes[engine.name] = engine.compute
    seconds = dict.fromkeys(computes, float("inf"))
    answers = {}
    for _ in range(arguments.rounds):
        for name, compute in computes.items():
            begin = perf_counter()
            answers[name] = torch.cat([compute(batch).sigmoid().cpu() for batch in images.split(BATCH)])
            seconds[name] = min(seconds[name], perf_counter() - begin)
    print(f"{model} fold {arguments.fold}, {len(rows)} images of {images.shape[2]}x{images.shape[3]}")
    print(f"{'':22}{'images/s':>10}{'ratio':>8}{'max |dp|':>12}{'Dice':>10}")
    exact, slowest = answers["notebook, fp32 NCHW"], seconds["notebook, fp32 NCHW"]
    for name, answer in answers.items():
        apart = (answer - exact).abs().max().item()
        dice = mask_dice(answer > 0.5, truth).mean().item()
        print(f"{name:22}{len(rows) / seconds[name]:10.1f}{slowest / seconds[name]:7.2f}x{apart:12.2e}{dice:10.5f}")


if __name__ == "__main__":
    main()
