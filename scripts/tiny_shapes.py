"""The tiny VLM's world: generated pictures of shapes, and three kinds of instruction and answer about them.

No digits, no glyphs and no medical images; label words of later tasks occur only in the answers that repeat a word.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import chain

import numpy as np
from PIL import Image, ImageDraw

SIDE = 32
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 225),
    "yellow": (235, 215, 50),
    "white": (240, 240, 240),
    "black": (15, 15, 15),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": ("circle", "square", "triangle", "star", "cross", "ring"),
    "color": tuple(COLOURS),
    "size": ("small", "large"),
    "position": tuple(
        f"{row} {column}".replace("center center", "center").replace("center ", "").replace(" center", "")
        for row in ("top", "center", "bottom")
        for column in ("left", "center", "right")
    ),
    "count": ("one", "two", "three", "four"),
    "texture": ("plain", "striped", "dotted"),
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MEDICAL_COMMON = tuple(
    """pneumonia;normal;malignant;benign;melanoma;nevus;drusen;retinopathy;bladder;heart;liver;pancreas;spleen;femur-left;
    femur-right;kidney-left;kidney-right;lung-left;lung-right;mass;nodule;effusion;edema;hernia;fibrosis;lymphocyte;monocyte;
    neutrophil;platelet;basophil;eosinophil;erythroblast;mucus;debris;adipose;background""".replace("\n    ", "").split(
        ";"
    )
)
MEDICAL_LONG = tuple(
    """lymphocytes;smooth muscle;normal colon mucosa;cancer-associated stroma;colorectal adenocarcinoma epithelium;
    atelectasis;cardiomegaly;infiltration;pneumothorax;consolidation;emphysema;pleural;melanocytic nevi;dermatofibroma;
    actinic keratoses and intraepithelial carcinoma;basal cell carcinoma;benign keratosis-like lesions;vascular lesions;
    choroidal neovascularization;diabetic macular edema;diabetic retinopathy;
    immature granulocytes(myelocytes, metamyelocytes and promyelocytes);Collecting Duct, Connecting Tubule;
    Distal Convoluted Tubule;Glomerular endothelial cells;Interstitial endothelial cells;Leukocytes;Podocytes;
    Proximal Tubule Segments;Thick Ascending Limb""".replace("\n    ", "").split(";")
)
MODALITIES = tuple(
    """handwritten digit;chest X-ray;dermatoscope;retinal OCT;fundus camera;breast ultrasound;colon pathology;
    blood cell microscope;kidney cortex microscope;abdominal CT""".replace("\n    ", "").split(";")
)
CHOICE_WORDINGS = (
    "Analyze the given {subject} image. The possible classes are: {labels}.",
    "Analyze the given {subject} image. The possible diagnoses are:{labels}.",
    "Which {attribute} is in the image? The possible classes are: {labels}.",
    "Which {attribute} is in the given image? {labels}.",
)
CAPTION_WORDINGS = ("Describe the image.", "Describe the given image.")
REPEAT_WORDINGS = ("Repeat: {words}", "Repeat the word: {words}")
SUBJECTS = ("shape", "color", "texture", "simple", "synthetic")
TASKS = {"caption": 0.60, "choice": 0.25, "repeat": 0.15}


@dataclass(frozen=True)
class Scene:
    """What a picture shows; ``cells`` index the nine positions, one for each shape."""

    shapes: tuple[tuple[str, str], ...]
    size: str
    cells: tuple[int, ...]
    texture: str

    def caption(self) -> str:
        """Return the one right description."""
        if len(self.shapes) == 1:
            (color, kind), position = self.shapes[0], ATTRIBUTES["position"][self.cells[0]]
            return f"a {self.size} {color} {kind} at the {position}"
        if len(set(self.shapes)) == 1:
            color, kind = self.shapes[0]
            return f"{ATTRIBUTES['count'][len(self.shapes) - 1]} {color} {plural(kind)}"
        return " and ".join(f"a {color} {kind}" for color, kind in self.shapes)

    def answers(self) -> dict[str, str]:
        """Return the attributes that have one answer, with it."""
        answers = {"texture": self.texture}
        if len(set(self.shapes)) == 1:
            color, kind = self.shapes[0]
            answers |= {"color": color, "shape": kind, "count": ATTRIBUTES["count"][len(self.shapes) - 1]}
        if len(self.shapes) == 1:
            answers |= {"size": self.size, "position": ATTRIBUTES["position"][self.cells[0]]}
        return answers


def plural(kind: str) -> str:
    """Return the plural of a shape's name."""
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def draw_scene(rng: random.Random) -> Scene:
    """Draw what to show: one shape in six cases of ten, else several alike or an unlike pair, left then right."""
    texture, roll = rng.choice(ATTRIBUTES["texture"]), rng.random()
    shapes = tuple((rng.choice(ATTRIBUTES["color"]), rng.choice(ATTRIBUTES["shape"])) for _ in range(2))
    if roll < 0.6:
        return Scene(shapes[:1], rng.choice(ATTRIBUTES["size"]), (rng.randrange(9),), texture)
    if roll < 0.8 or shapes[0] == shapes[1]:
        count = rng.randint(2, 4)
        return Scene(shapes[:1] * count, "small", tuple(rng.sample(range(9), count)), texture)
    return Scene(shapes, "small", (3, 5), texture)


def outline(kind: str, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """Return the corners of a shape of straight lines."""
    if kind == "cross":
        radii, angles = (1.0, 1.0, 0.45), [a + q * math.pi / 2 for q in range(4) for a in (-0.32, 0.32, math.pi / 4)]
    else:
        corners = {"triangle": 3, "square": 4, "star": 10}[kind]
        radii = (1.0, 0.42) if kind == "star" else (1.0,)
        angles = [
            2 * math.pi * k / corners + (math.pi / 4 if kind == "square" else -math.pi / 2) for k in range(corners)
        ]
    reach = [radius * 1.15 * radii[k % len(radii)] for k in range(len(angles))]
    return [(x + r * math.cos(a + turn), y + r * math.sin(a + turn)) for r, a in zip(reach, angles, strict=True)]


def draw_background(texture: str, colours: list[tuple[int, int, int]], rng: random.Random) -> np.ndarray:
    """Return a faintly coloured, textured ``[2 SIDE, 2 SIDE, 3]`` ground that every shape stands out from."""
    while True:
        level = rng.randint(10, 235)
        ground = np.array([level + rng.randint(-18, 18) for _ in range(3)], dtype=np.float32)
        if all(np.abs(ground - np.array(colour)).max() > 90 for colour in colours):
            break
    y, x = np.mgrid[0 : 2 * SIDE, 0 : 2 * SIDE].astype(np.float32)
    pitch, phase, angle = rng.uniform(7, 12), rng.uniform(0, 6), rng.uniform(0, math.pi)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    wave = np.sin(2 * math.pi * along / pitch + phase)
    if texture == "dotted":
        wave = 2 * (wave * np.sin(2 * math.pi * across / pitch) > 0.4) - 1.0
    strength = 0.0 if texture == "plain" else rng.choice((-1, 1)) * rng.uniform(16, 30)
    slope = rng.uniform(-12, 12) * (x / SIDE - 1)
    return ground + (wave * strength + slope)[..., None]


def paint(scene: Scene, rng: random.Random) -> np.ndarray:
    """Return the ``[SIDE, SIDE, 3]`` uint8 picture of a scene, with jittered places, colours, angles and noise."""
    colours = [COLOURS[color] for color, _ in scene.shapes]
    ground = draw_background(scene.texture, colours, rng)
    canvas = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for (_, kind), base, cell in zip(scene.shapes, colours, scene.cells, strict=True):
        fill = tuple(min(255, max(0, value + rng.randint(-15, 15))) for value in base)
        x, y = (2 * SIDE * (0.22 + 0.28 * place + rng.uniform(-0.03, 0.03)) for place in (cell % 3, cell // 3))
        radius = rng.uniform(8, 10) if scene.size == "small" else rng.uniform(15, 19)
        box = (x - radius, y - radius, x + radius, y + radius)
        if kind == "circle":
            pen.ellipse(box, fill=fill)
        elif kind == "ring":
            pen.ellipse(box, outline=fill, width=round(radius * 0.38))
        else:
            pen.polygon(outline(kind, x, y, radius, rng.uniform(-0.15, 0.15)), fill=fill)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0, 10), (SIDE, SIDE, 3))
    return (np.asarray(canvas.reduce(2)) + noise).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Sample:
    """One picture with its instruction, its answer and, for a choice, the labels to choose from."""

    picture: np.ndarray
    instruction: str
    answer: str
    options: tuple[str, ...] = ()


def draw_choice(scene: Scene, rng: random.Random) -> tuple[str, str, tuple[str, ...]]:
    """Return a multiple-choice question about a scene, its answer and its options, some of the labels in any order."""
    attribute, answer = rng.choice(sorted(scene.answers().items()))
    others = [label for label in ATTRIBUTES[attribute] if label != answer]
    options = [answer, *rng.sample(others, rng.randint(1, len(others)))]
    rng.shuffle(options)
    wording = rng.choice(CHOICE_WORDINGS)
    question = wording.format(subject=rng.choice(SUBJECTS), attribute=attribute, labels=", ".join(options))
    return question, answer, tuple(options)


def draw_repeat(rng: random.Random) -> tuple[str, str]:
    """Return an order to repeat a label, or two or three of them, and the answer."""
    pools = (DIGITS, MEDICAL_COMMON, MEDICAL_LONG, tuple(chain(*ATTRIBUTES.values())))
    words = " ".join(rng.choice(rng.choice(pools)) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    return rng.choice(REPEAT_WORDINGS).format(words=words), words


def draw_sample(rng: random.Random, task: str | None = None) -> Sample:
    """Draw a fresh sample of one task, or of the mixture."""
    task = task or rng.choices(list(TASKS), list(TASKS.values()))[0]
    scene = draw_scene(rng)
    picture = paint(scene, rng)
    if task == "caption":
        return Sample(picture, rng.choice(CAPTION_WORDINGS), scene.caption())
    if task == "choice":
        return Sample(picture, *draw_choice(scene, rng))
    return Sample(picture, *draw_repeat(rng))
