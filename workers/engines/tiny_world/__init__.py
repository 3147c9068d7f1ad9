"""tiny_world: the bundled diffusion model, as diffusers components and a pipeline."""

from workers.engines.tiny_world.autoencoder import TinyWorldAutoencoder
from workers.engines.tiny_world.layout import TinyWorldLayoutEncoder
from workers.engines.tiny_world.pipeline import TinyWorldPipeline

__all__ = ["TinyWorldAutoencoder", "TinyWorldLayoutEncoder", "TinyWorldPipeline"]
