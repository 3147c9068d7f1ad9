"""Row (a): the farm's render path against the same diffusers pipeline called by hand.

    python -m tools.bench.overhead --unit-ms 200
    python -m tools.bench.overhead --unit-ms 1000

A is `workers.render.render` with a meter that has a limit, one unit after the other, each into
its own segment. B is a loop that a person would write: call the pipeline, turn its images into
bytes, write them to the same encoder, unit by unit. Both are warm; the segments must be equal
byte by byte, or there is no result.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from orchestrator import catalog
from orchestrator.model import Brief, Size
from orchestrator.planning import planner
from orchestrator.prompting import parser
from orchestrator.wire import SEGMENT, FrameSpec, RenderWork
from tools.bench.pairing import Comparison, cost_of, paired
from tools.bench.progress import step
from workers.engines import Engine, engine_for
from workers.engines.noise import TRAVEL, latent_shape, shot_noise
from workers.ffmpeg import SegmentWriter
from workers.meter import Meter
from workers.render import render

PROMPT = "a dog runs across a beach"


def main() -> None:
    """Print the comparison for one length of unit."""
    options = _options()
    step("loading the model")
    card = catalog.load(options.models).card(options.model)
    engine = engine_for(card)
    engine.load("cpu", options.threads)
    frames = clip_frames(card, options.seed)
    unit_frames = _frames_of_unit(engine, frames, options.unit_ms)
    units = [
        clip_work(card, frames[first : first + unit_frames])
        for first in range(0, unit_frames * options.units, unit_frames)
    ]
    comparison = compare(engine, units, pairs=options.pairs)
    print(f"(a) render path / plain loop, {card.id}, {options.units} units of {unit_frames} frames")
    print(f"    {comparison}")


def compare(engine: Engine, units: Sequence[RenderWork], *, pairs: int) -> Comparison:
    """Time both ways over the units; refuse to when they do not make the same files."""
    with tempfile.TemporaryDirectory(prefix="framefarm-bench-") as name:
        home = Path(name)

        def clean(way: Callable[[Engine, RenderWork, SegmentWriter], None]) -> list[str]:
            digests = []
            for number, work in enumerate(units):
                folder = home / str(number)
                folder.mkdir()
                way(engine, work, clip_writer(folder, work))
                digests.append(sha256((folder / SEGMENT).read_bytes()).hexdigest())
                shutil.rmtree(folder)
            return digests

        step("both ways once, which must make the same files")
        if clean(by_farm) != clean(by_hand):
            msg = "the farm's segments differ from the plain loop's: nothing to compare"
            raise SystemExit(msg)
        return paired(lambda: clean(by_farm), lambda: clean(by_hand), pairs=pairs)


def by_farm(engine: Engine, work: RenderWork, writer: SegmentWriter) -> None:
    """Render one unit as a worker does."""
    result = render(
        work,
        engine=engine,
        meter=Meter(limit_gpu_ms=10**7, step_prior_ms=10, decode_prior_ms=10),
        writer=writer,
        progress=lambda gpu_ms, frames: None,
    )
    assert result.receipt.frames_done == len(work.frames), result.message


def by_hand(engine: Any, work: RenderWork, writer: SegmentWriter) -> None:
    """Render one unit as a script would: the pipeline's own call, then the encoder."""
    import torch  # after `workers` has said how its threads wait

    pipe = engine._pipe
    travel = 0.0 if engine.card.uses_layout else TRAVEL
    shape = (1, *latent_shape(pipe, work.height, work.width))
    for first in range(0, len(work.frames), work.micro_batch):
        batch = work.frames[first : first + work.micro_batch]
        layout = {"layout": [list(f.layout) for f in batch]} if engine.card.uses_layout else {}
        with torch.no_grad():
            images = pipe(
                prompt=[frame.prompt for frame in batch],
                negative_prompt=[frame.negative_prompt for frame in batch],
                height=work.height,
                width=work.width,
                num_inference_steps=work.steps,
                guidance_scale=work.guidance_scale,
                latents=torch.cat([shot_noise(shape, frame, travel) for frame in batch]),
                output_type="pt",
                **layout,
            ).images
        pixels = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        writer.write(pixels)
    writer.finish()


def clip_frames(card: catalog.ModelCard, seed: int) -> tuple[FrameSpec, ...]:
    """Return the longest shot of the model, as its parse unit would make it."""
    screenplay = parser.parse(PROMPT, vocabulary=card.vocabulary)
    plan = planner.plan(Brief(prompt=PROMPT, seconds=card.max_seconds), screenplay, card, seed=seed)
    return tuple(
        FrameSpec(**asdict(frame)) for frame in planner.frames(plan, 0, plan.frames_total, card)
    )


def _frames_of_unit(engine: Engine, frames: Sequence[FrameSpec], unit_ms: int) -> int:
    """Return how many whole micro-batches take about `unit_ms` of device time."""
    card = engine.card
    work = clip_work(card, frames[: card.micro_batch])

    def once() -> None:
        for _ in engine.paint(work, work.frames, Meter.unlimited(), None):
            pass

    batch_ms = min(cost_of(once).wall_seconds for _ in range(3)) * 1000
    return card.micro_batch * max(1, round(unit_ms / batch_ms))


def clip_work(card: catalog.ModelCard, frames: Sequence[FrameSpec]) -> RenderWork:
    return RenderWork(
        model=card.id,
        model_version=card.version,
        width=card.native.width,
        height=card.native.height,
        output_width=card.output.width,
        output_height=card.output.height,
        fps=card.fps,
        steps=card.default_steps,
        guidance_scale=card.guidance_scale,
        micro_batch=card.micro_batch,
        frames=tuple(frames),
        step_gpu_ms_prior=0,
        decode_gpu_ms_prior=0,
    )


def clip_writer(folder: Path, work: RenderWork) -> SegmentWriter:
    return SegmentWriter(
        folder,
        native=Size(width=work.width, height=work.height),
        output=Size(width=work.output_width, height=work.output_height),
        fps=work.fps,
        frames=len(work.frames),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=catalog.bundled_models(), help="folder")
    parser.add_argument("--model", default="tiny_world", help="id of a model in it")
    parser.add_argument("--unit-ms", type=int, default=1000, help="device time of one unit")
    parser.add_argument("--units", type=int, default=4, help="units in a run")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0, help="of the engine; 0: all cores")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
