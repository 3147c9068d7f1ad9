"""A small vocabulary and two cards, for tests that need one."""

from dataclasses import replace

from orchestrator.catalog import FAKE, ModelCard
from orchestrator.model import Size, Vocabulary

VOCABULARY = Vocabulary(
    subjects={
        "rocket": ("rocket", "rockets", "rocket ship"),
        "ship": ("ship",),
        "dog": ("dog", "puppy"),
        "cat": ("cat", "kitten"),
        "bird": ("bird",),
        "robot": ("robot",),
        "balloon": ("balloon",),
    },
    settings={
        "night": ("night", "starry night", "dark"),
        "sky": ("sky", "clouds"),
        "beach": ("beach",),
        "space": ("space",),
        "meadow": ("meadow", "grass"),
    },
    motions={
        "moves_right": ("to the right", "runs", "running", "flies", "drives"),
        "moves_left": ("to the left",),
        "rises": ("rises", "rising", "up"),
        "bounces": ("bounces", "jumps"),
        "spins": ("spins", "turns"),
        "floats": ("floats", "floating"),
    },
)

LAYOUT: ModelCard = replace(
    FAKE,
    id="layout",
    uses_layout=True,
    vocabulary=VOCABULARY,
    native=Size(width=256, height=256),
    output=Size(width=512, height=512),
)
"""A card that takes places, as tiny_world does."""
