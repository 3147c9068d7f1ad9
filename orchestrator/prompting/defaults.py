"""Meanings of what is left unsaid: gentle motions, fitting places, near things, small words.

Ids are those of models/tiny_world/vocabulary.toml; an id that a vocabulary lacks is passed over.
"""

from collections.abc import Mapping
from typing import Final


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _each(words: str, value: str) -> dict[str, str]:
    return dict.fromkeys(words.split(), value)


DEFAULT_MOTIONS: Final[Mapping[str, str]] = {
    **_each("rocket balloon", "rises"),
    **_each("dog cat horse fox lion tiger elephant giraffe turtle snail dinosaur", "moves_right"),
    **_each("unicorn car taxi bus train bicycle sailboat ship fish whale", "moves_right"),
    **_each("airplane helicopter bird eagle duck penguin dolphin robot", "moves_right"),
    **_each("rabbit football basketball", "bounces"),
    **_each("butterfly bee", "zigzags"),
    **_each("tree sunflower rose cactus umbrella", "swings"),
    **_each("heart star diamond", "pulses"),
}
"""Subject -> how it moves when nobody says; others float."""
SUBJECT_SETTINGS: Final[Mapping[str, str]] = {
    **_each("rocket ufo alien star", "space"),
    **_each("moon owl ghost", "night"),
    **_each("fish whale dolphin octopus sailboat ship", "ocean"),
    **_each("dog horse rabbit butterfly bee snail cat fox unicorn", "meadow"),
    **_each("sunflower rose tree mushroom football house bicycle", "meadow"),
    **_each("car taxi bus robot", "city"),
    **_each("penguin snowman", "snow"),
    **_each("turtle umbrella", "beach"),
    **_each("cactus dinosaur lion elephant giraffe", "desert"),
    **_each("tiger", "forest"),
    **_each("train dragon", "mountains"),
}
"""Subject -> where it is when nobody says; others are in the sky."""
SETTING_SUBJECTS: Final[Mapping[str, str]] = {
    "sky": "balloon",
    "night": "moon",
    "space": "ufo",
    "sunset": "bird",
    "meadow": "butterfly",
    "beach": "sailboat",
    "ocean": "fish",
    "desert": "cactus",
    "snow": "snowman",
    "city": "car",
    "forest": "fox",
    "mountains": "eagle",
}
"""Setting -> who is there when no known subject is named."""
NEAREST: Final[Mapping[str, str]] = {
    **_each("wolf wolves coyote animal pet husky corgi poodle terrier", "dog"),
    **_each("pig piglet goat sheep lamb monkey", "dog"),
    **_each("leopard panther cheetah jaguar", "tiger"),
    **_each("bear teddy panda koala gorilla", "lion"),
    **_each("hippo rhino mammoth", "elephant"),
    **_each("donkey zebra mule deer cow bull camel moose", "horse"),
    **_each("mouse mice hamster squirrel hedgehog kangaroo", "rabbit"),
    **_each("frog toad", "turtle"),
    **_each("crab lobster jellyfish", "octopus"),
    **_each("seal walrus otter", "dolphin"),
    **_each("ladybug ladybird beetle insect bug", "bee"),
    **_each("chicken hen rooster turkey", "duck"),
    **_each("person man woman boy girl child people human astronaut knight wizard", "robot"),
    **_each("shark salmon", "fish"),
    **_each("seagull gull parrot crow pigeon owlet swan goose", "bird"),
    **_each("truck van lorry vehicle jeep", "car"),
    **_each("tram subway metro", "train"),
    **_each("motorcycle motorbike scooter", "bicycle"),
    **_each("canoe ferry submarine vessel", "ship"),
    **_each("shuttle missile satellite", "rocket"),
    **_each("drone", "helicopter"),
    **_each("planet sun", "moon"),
    **_each("monster lizard crocodile", "dinosaur"),
    **_each("tulip daisy lily", "rose"),
    **_each("castle tower building cabin", "house"),
    **_each("fruit peach cherry orange", "apple"),
    **_each("cupcake pie dessert", "cake"),
    **_each("violin piano drum instrument", "guitar"),
}
"""A word -> the subject that looks most like it."""
COUNTS: Final[Mapping[str, int]] = {
    **dict.fromkeys(_set("two 2 pair couple both"), 2),
    **dict.fromkeys(_set("three 3 four 4 five 5 six 6 several many group herd flock"), 3),
}
"""A word before a subject -> how many are wanted; a shot shows two at most."""
BARE_VERBS: Final = _set(
    """run walk drive move fly swim race sail cross lift take go launch climb ascend soar drop
    land descend sink float turn rotate twirl whirl roll tumble get come approach swell inflate
    vanish sway dangle dance wobble orbit loop weave dart hover drift bob stand sit pulse throb
    glow leap hop jump bounce"""
)
"""Verbs whose plain form is no noun of everyday prompts, so that "run" can stand for "runs"."""
SMALL_WORDS: Final = _set(
    """the and with its his her their our your this that these those there here some any all both
    each for from into onto out off over under above below behind beside between through across
    along past near next toward towards inside outside around about against upon during while when
    where who which what then now just very really quite more most much many few little big small
    large huge tiny tall short long old new young cute happy sad funny lovely beautiful pretty nice
    great bright dark slowly quickly gently softly calmly gracefully high low fast slow quiet
    peaceful two three pair couple several another one are was were has have had does not being
    been video clip movie film animation cartoon shot scene picture image style day time way side
    make makes create show shows showing please want them they she him it by far close away warm
    cold sunny starry fluffy shiny snowy camera follows cinematic motion"""
)
"""Words no one expects to see as a picture of their own; they are not reported as unknown."""
COLOURS: Final = _set(
    """red blue green yellow white black orange pink purple brown gold golden silver grey gray
    violet turquoise cyan teal magenta crimson scarlet indigo maroon navy beige ivory lilac
    lavender amber azure bronze copper olive khaki lime mauve ochre tan blonde reddish
    bluish greenish yellowish pinkish brownish greyish whitish blackish colorful colourful
    colored coloured multicolored multicoloured rainbow monochrome"""
)
"""Colours, which a vocabulary's subjects have of their own: they are noted where it lacks them."""
MORE_MOTIONS: Final[Mapping[str, str]] = {
    **_each("sleeps sleeping sleep waits waiting looks looking watches watching", "floats"),
    **_each("smiles smiling rests resting lies lying shines shining", "floats"),
    **_each("chases chasing trots trotting gallops galloping strolls strolling", "moves_right"),
    **_each("crawls crawling travels travelling wanders wandering rides riding", "moves_right"),
    **_each("speeds speeding rushes rushing slides sliding goes going passes", "moves_right"),
    **_each("passing drive drove ran swam flew gliding glides cruises cruising", "moves_right"),
    **_each("explodes exploding expands expanding", "grows"),
    **_each("left leftwards", "moves_left"),
    **_each("right rightwards", "moves_right"),
    "from the left": "moves_right",
    "from the right": "moves_left",
    "toward the camera": "grows",
    "towards the camera": "grows",
    "toward us": "grows",
    "towards us": "grows",
}
"""Everyday words that a vocabulary need not list -> the motion they come closest to."""
MORE_SETTINGS: Final[Mapping[str, str]] = {
    **_each("island coastline lake pond river pool bay lagoon", "beach"),
    **_each("savanna savannah canyon", "desert"),
    **_each("farm prairie pasture backyard yard", "meadow"),
    **_each("village highway avenue", "city"),
    **_each("rainforest woodlands wood", "forest"),
    **_each("glacier blizzard tundra antarctica", "snow"),
    **_each("volcano cliff cliffs", "mountains"),
    **_each("nebula mars cosmic", "space"),
    "milky way": "space",
}
"""Everyday words that a vocabulary need not list -> the setting that comes closest."""
NEGATIVE_ENDS: Final = _set(
    """on in at through across over under near beside by while as during against from toward
    towards into onto above below behind then that who which is are runs running walks walking
    flies flying swims swimming drives driving jumps jumping rises rising falls falling moves
    moving"""
)
"""Words that end what follows "without" or "no"."""
NO_MEASURE_AFTER: Final = _set(
    """of is are was a an the by than from to measuring measures about between per every each my
    his her its their our your this that these those after in within last first next until till
    past under over wait waits waiting waited only another named
    called number channel"""
)
"""Words behind which a number belongs to what is shown."""
BOOKS: Final = _set(
    """genesis exodus leviticus numbers deuteronomy joshua judges ruth samuel kings chronicles ezra
    nehemiah esther job psalm psalms proverbs ecclesiastes isaiah jeremiah lamentations ezekiel
    daniel hosea joel amos obadiah jonah micah nahum habakkuk zephaniah haggai zechariah malachi
    matthew mark luke john acts romans corinthians galatians ephesians philippians colossians
    thessalonians timothy titus philemon hebrews james peter jude revelation quran surah gita"""
)
"""Books whose verses look like shapes: Acts 16:9."""
TELLS_TIME: Final = _set(
    """at is it's its are was be shows showing show reads reading until till by since after before
    from to around about past clock time almost nearly strikes says"""
)
"""Words behind which 9:16 is a time of day."""
