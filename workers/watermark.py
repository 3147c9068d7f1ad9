"""A watermark: a few words in the lower right corner, laid over each frame as FFmpeg writes it.

The words are drawn once, with the typeface that Pillow has built in: no FFmpeg needs a font for
it, and every worker draws the same ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import ffmpeg
from PIL import Image, ImageDraw, ImageFont

from orchestrator.model import Size

Stream: TypeAlias = Any
"""Frames on their way through FFmpeg's filters: ffmpeg-python has no types."""

LEAST_LETTER_PX: Final = 9
"""Smaller letters cannot be read."""
LETTERS_PER_HEIGHT: Final = 22
MOST_OF_WIDTH: Final = 0.6
INK: Final = (255, 255, 255, 215)
EDGE: Final = (0, 0, 0, 150)
"""Around the letters: so they are legible on white, too."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Words for frames of a size, and the picture of them that FFmpeg reads."""

    words: str
    file: Path
    frame: Size

    def draw(self) -> None:
        """Write the picture: transparent but for the letters and their edge."""
        height = max(LEAST_LETTER_PX, self.frame.height / LETTERS_PER_HEIGHT)
        edge = max(1, round(height / 12))
        font = ImageFont.load_default(height)
        left, top, right, bottom = font.getbbox(self.words, stroke_width=edge)
        size = (round(right - left), round(bottom - top))
        picture = Image.new("RGBA", size)
        ImageDraw.Draw(picture).text(
            (-left, -top), self.words, font=font, fill=INK, stroke_width=edge, stroke_fill=EDGE
        )
        # Many words in a small picture: rather hard to read than over the whole of it.
        picture.thumbnail((max(1, round(self.frame.width * MOST_OF_WIDTH)), self.frame.height))
        picture.save(self.file)

    def over(self, frames: Stream) -> Stream:
        """Return FFmpeg's stream of frames with the words in their corner."""
        words = ffmpeg.input(
            str(self.file), format="png_pipe", protocol_whitelist="file", codec_whitelist="png"
        )
        gap = max(2, self.frame.height // 40)
        return ffmpeg.overlay(frames, words, x=f"W-w-{gap}", y=f"H-h-{gap}", format="yuv420")
