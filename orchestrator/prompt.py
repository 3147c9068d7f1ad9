"""A prompt, parsed: shots, and the wishes found in its words. Deterministic; no model needed."""

from orchestrator.errors import BadRequest
from orchestrator.model import Scene, SceneText, Screenplay, Vocabulary


def parse(
    text: str,
    *,
    vocabulary: Vocabulary,
    scenes: tuple[SceneText, ...] = (),
    max_chars: int = 10_000,
) -> Screenplay:
    """Understand a prompt, or a storyboard whose title and style the prompt is."""
    if not scenes and not text.strip():
        raise BadRequest("The prompt is empty.", next="Say what the video should show.")
    if len(text) > max_chars:
        raise BadRequest(f"The prompt has {len(text)} characters; {max_chars} is the most.")
    if not scenes:
        return Screenplay(scenes=(Scene(prompt=text.strip()),))
    return Screenplay(
        scenes=tuple(
            Scene(prompt=s.prompt, negative_prompt=s.negative_prompt, seconds=s.seconds)
            for s in scenes
        )
    )
