"""The engine of catalogue kind `frames`: a diffusers image pipeline, driven frame by frame."""

import gc
import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from orchestrator.catalog import ModelCard
from orchestrator.errors import BadRequest
from orchestrator.receipt import DECODE, DENOISE, TRANSFER
from orchestrator.remedies import Say
from orchestrator.wire import FrameSpec, RenderWork
from workers.checkpoint import Checkpoint
from workers.engines import Pixels, latents
from workers.engines import image as reference
from workers.engines.noise import TRAVEL, denoiser_of, latent_shape, shot_noise
from workers.engines.recipes import Pipe, Scheduler, pipeline_class, recipe
from workers.engines.text import Texts
from workers.meter import IMAGE_ENCODE, LOAD, TEXT_ENCODE, Meter, Stopped


class DiffusersEngine:
    """Drives one pipeline so that a frame's pixels depend on its own specification alone.

    Every call of the pipeline has the same shape (`micro_batch` frames, the last one padded),
    noise and embeddings are made frame by frame, threads are pinned, kernels deterministic.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self._recipe = recipe(card.pipeline)
        self._pipe: Pipe = None
        self._texts: Any = None

    def load(self, device: str, threads: int) -> None:
        """Load the card's folder or pinned revision onto `device` and warm it up."""
        _pin(threads)
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        pipe = pipeline_class(self.card.pipeline).from_pretrained(
            self.card.path,
            revision=self.card.revision or None,
            dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32,
            use_safetensors=True,
            local_files_only=self.card.source == "local",
            trust_remote_code=False,
        )
        pipe.set_progress_bar_config(disable=True)
        for network in (denoiser_of(pipe), pipe.vae):
            # Convolutions read pixels side by side: a fifth less CPU time for tiny_world.
            network.to(memory_format=torch.channels_last)
        self._pipe = pipe.to(device)
        self._accepted = frozenset(inspect.signature(pipe.__call__).parameters)
        self._texts = Texts(pipe, self._recipe)
        self._warm_up()

    def unload(self) -> None:
        """Let go of the pipeline and give its memory back."""
        self._pipe = self._texts = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def paint(
        self,
        work: RenderWork,
        frames: Sequence[FrameSpec],
        meter: Meter,
        image: Path | None,
        resume: Checkpoint | None = None,
    ) -> Iterator[Pixels]:
        """Yield the frames, one micro-batch at a time."""
        if image is not None and not self.card.takes_image:
            raise BadRequest(
                f"{self.card.id} takes no reference image.",
                Say("Leave the image out, or choose a model that takes one."),
            )
        start: torch.Tensor | None = None
        for first in range(0, len(frames), work.micro_batch):
            batch = frames[first : first + work.micro_batch]
            padding = [batch[-1]] * (work.micro_batch - len(batch))
            meter.before_batch()
            if resume is not None:
                yield self._go_on(work, [*batch, *padding], meter, resume, image)[: len(batch)]
                resume = None
                continue
            if image is not None and start is None:
                with meter.stage(IMAGE_ENCODE):
                    start = reference.read(image, work.width, work.height, work.image_background)
                    if not self.card.uses_layout:
                        start = reference.encode(self._pipe, start)
            yield self._paint_batch(work, [*batch, *padding], meter, start)[: len(batch)]

    @torch.no_grad()
    def _paint_batch(
        self,
        work: RenderWork,
        batch: Sequence[FrameSpec],
        meter: Meter,
        start: torch.Tensor | None,
    ) -> Pixels:
        """Paint one micro-batch, from noise or from the latents `start` of a reference image.

        A layout model starts from noise and lays the image itself behind its subjects.
        """
        left_out = (
            0 if start is None else reference.steps_left_out(work.steps, self.card.image_strength)
        )
        with meter.stage(TEXT_ENCODE):
            texts = self._texts.of(batch, guided=work.guidance_scale > 1)
        meter.before_step()
        with meter.stage(DENOISE):
            call = self._call(work, batch) | texts
            if start is not None and self.card.uses_layout:
                call["backdrop"] = start
            elif start is not None:
                call["latents"] = self._from_picture(work, batch, start, left_out)
            scheduler = self._pipe.scheduler
            with reference.late_start(scheduler, left_out):
                images = self._denoise_and_decode(call, meter, left_out * scheduler.order)
        with meter.stage(TRANSFER):
            return _to_bytes(images)

    @torch.no_grad()
    def _go_on(
        self,
        work: RenderWork,
        batch: Sequence[FrameSpec],
        meter: Meter,
        point: Checkpoint,
        image: Path | None,
    ) -> Pixels:
        """Finish a micro-batch that was begun elsewhere; its texts were paid for there."""
        device = self._pipe._execution_device
        with meter.stage(LOAD):
            call = self._call(work, batch) | self._texts.of(batch, guided=work.guidance_scale > 1)
            reached = latents.latents_of(point, device)
            # tiny_world reads more than a beginning out of the noise.
            call["resume_latents" if "resume_latents" in self._accepted else "latents"] = reached
            if image is not None and self.card.uses_layout:
                call["backdrop"] = reference.read(
                    image, work.width, work.height, work.image_background
                )
        meter.before_step()
        with meter.stage(DENOISE):
            generators = call.get("generator", ())
            with latents.resumed(self._pipe.scheduler, point, generators, device):
                images = self._denoise_and_decode(call, meter, point.step)
        with meter.stage(TRANSFER):
            return _to_bytes(images)

    def _call(self, work: RenderWork, batch: Sequence[FrameSpec]) -> dict[str, Any]:
        """Return the arguments of the pipeline's call, but for the texts: those it accepts."""
        arguments = {
            "prompt": None,
            "negative_prompt": None,
            "layout": [list(frame.layout) for frame in batch],
            "height": work.height,
            "width": work.width,
            "num_inference_steps": work.steps,
            "guidance_scale": work.guidance_scale,
            "latents": self._noise(work, batch),
            "generator": [torch.Generator("cpu").manual_seed(frame.seed) for frame in batch],
            "use_resolution_binning": False,
            "output_type": "pt",
        }
        return {name: value for name, value in arguments.items() if name in self._accepted}

    def _noise(self, work: RenderWork, batch: Sequence[FrameSpec]) -> torch.Tensor:
        noise = self._shot_noises(work, batch)
        if self._recipe.packed:
            noise = self._pipe._pack_latents(noise, *noise.shape)
        return noise.to(self._pipe._execution_device, denoiser_of(self._pipe).dtype)

    def _shot_noises(self, work: RenderWork, batch: Sequence[FrameSpec]) -> torch.Tensor:
        shape = (1, *latent_shape(self._pipe, work.height, work.width))
        travel = 0.0 if self.card.uses_layout else TRAVEL
        return torch.cat([shot_noise(shape, frame, travel) for frame in batch])

    def _from_picture(
        self, work: RenderWork, batch: Sequence[FrameSpec], start: torch.Tensor, left_out: int
    ) -> torch.Tensor:
        latents = reference.noised(
            self._pipe.scheduler,
            start,
            self._shot_noises(work, batch),
            steps=work.steps,
            left_out=left_out,
        )
        return latents.to(self._pipe._execution_device, denoiser_of(self._pipe).dtype)

    def _denoise_and_decode(self, call: dict[str, Any], meter: Meter, already: int) -> torch.Tensor:
        """Call the pipeline, whose loop begins after `already` steps of its schedule."""
        try:
            with _metered(self._pipe.scheduler, meter, call, already):
                images: torch.Tensor = self._pipe(**call).images
                return images
        except BaseException as error:
            # What an aborted call leaves in hooks and caches would leak into the next one.
            self._pipe.maybe_free_model_hooks()
            if isinstance(error, ValueError):
                raise BadRequest(f"{self.card.id} cannot paint this: {error}") from error
            raise

    def _warm_up(self) -> None:
        """Paint one frame at the native shape, so that one-time work is not on anybody's bill."""
        work = _one_frame(self.card)
        try:
            for _ in self.paint(work, work.frames, Meter.unlimited(), None):
                pass
        except BadRequest as error:  # nobody has asked for anything yet: it is the model's fault
            raise OSError(f"{self.card.id} does not work here: {error}") from error


def _one_frame(card: ModelCard) -> RenderWork:
    """Return the smallest work there is for a card."""
    frame = FrameSpec(index=0, prompt="", negative_prompt="", seed=0, phase=0.0)
    return RenderWork(
        model=card.id,
        model_version=card.version,
        width=card.native.width,
        height=card.native.height,
        output_width=card.native.width,
        output_height=card.native.height,
        fps=card.fps,
        steps=card.min_steps,
        guidance_scale=card.guidance_scale,
        micro_batch=card.micro_batch,
        frames=(frame,),
        step_gpu_ms_prior=0,
        decode_gpu_ms_prior=0,
    )


@contextmanager
def _metered(
    scheduler: Scheduler, meter: Meter, call: dict[str, Any], already: int
) -> Iterator[None]:
    """Let the meter see and allow every step; after the last one the decode is running.

    A stop takes the state of the loop with it, where going on would be exact.

    Every pipeline calls `scheduler.step` once per step of its loop; only some have
    `callback_on_step_end`. `wraps` keeps the signature that pipelines look into.
    """
    step = scheduler.step
    done = total = 0

    @wraps(step)
    def metered_step(*args: Any, **kwargs: Any) -> Any:
        nonlocal done, total
        total = total or len(scheduler.timesteps)  # before a late start puts the rest back
        stepped = step(*args, **kwargs)
        done += 1
        meter.step_done()
        if done < total:
            try:
                meter.before_step()
            except Stopped as stopped:
                meter.switch(LOAD)
                if (reached := stepped[0]).dtype == call["latents"].dtype:
                    generators = call.get("generator", ())
                    stopped.checkpoint = latents.taken(
                        scheduler, reached, generators, already + done
                    )
                raise
        else:
            meter.switch(DECODE)
        return stepped

    scheduler.step = metered_step
    try:
        yield
    finally:
        scheduler.step = step


def _to_bytes(images: torch.Tensor) -> Pixels:
    """Return (n, 3, h, w) in 0…1 on the device as contiguous (n, h, w, 3) bytes on the host."""
    if not torch.isfinite(images).all():
        raise ArithmeticError("The model painted values that are no numbers.")
    bytes_ = images.mul(255).round().clamp(0, 255).to(torch.uint8)
    return bytes_.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _pin(threads: int) -> None:
    """Fix what would let the same work give other bits: threads, kernel choice, TF32."""
    if threads:
        torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # noqa: TID251 - cuBLAS looks there
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling what torch.empty returns costs time and only finds bugs.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set at run time
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
