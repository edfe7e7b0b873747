"""Which things can be put in a picture: tag, drawing, real height, modelling and shadow."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.sample import (
    things_birds,
    things_buildings,
    things_flowers,
    things_furniture,
    things_landmarks,
    things_livestock,
    things_people,
    things_pets,
    things_plants,
    things_street,
    things_tableware,
    things_travel,
    things_wild,
)
from engine.sample.noise import Kind
from engine.sample.pen import Pen


@dataclass(frozen=True)
class Thing:
    """A drawing with what composition must know of it.

    `metres` is its usual height, `reach` half its width in units of its height, `shadow` the
    strength of its shadow on the ground (0 for what floats, flies or hangs).
    """

    tag: str
    draw: Callable[[Pen], None]
    metres: float
    reach: float = 0.5
    relief: float = 0.3
    texture: Kind | None = None
    amount: float = 0.0
    shadow: float = 0.38


def _cyclist(pen: Pen) -> None:
    things_street.bicycle(pen)
    things_people.cyclist(pen)


THINGS: dict[str, Thing] = {
    "dog": Thing("dog", things_pets.dog, 0.85, 0.7, 0.34, "fur", 0.05),
    "cat": Thing("cat", things_pets.cat, 0.6, 0.5, 0.34, "fur", 0.05),
    "horse": Thing("horse", things_livestock.horse, 2.0, 0.6, 0.34, "fur", 0.03),
    "cow": Thing("cow", things_livestock.cow, 1.7, 0.7, 0.34, "fur", 0.03),
    "sheep": Thing("sheep", things_livestock.sheep, 1.1, 0.55, 0.28, "leaf", 0.05),
    "camel": Thing("camel", things_wild.camel, 2.5, 0.6, 0.34, "fur", 0.04),
    "elephant": Thing("elephant", things_wild.elephant, 3.2, 0.75, 0.34, "leaf", 0.03),
    "giraffe": Thing("giraffe", things_wild.giraffe, 4.8, 0.35, 0.3),
    "gull": Thing("bird", things_birds.gull, 0.9, 0.6, 0.25, shadow=0.0),
    "songbird": Thing("bird", things_birds.songbird, 0.45, 0.6, 0.34, "fur", 0.04),
    "duck": Thing("duck", things_birds.duck, 0.55, 0.75, 0.32, shadow=0.0),
    "penguin": Thing("penguin", things_birds.penguin, 0.95, 0.35, 0.3),
    "butterfly": Thing("butterfly", things_birds.butterfly, 0.3, 0.6, 0.2, shadow=0.0),
    "fish": Thing("fish", things_birds.fish, 0.4, 0.75, 0.3, shadow=0.0),
    "person": Thing("person", things_people.person, 1.75, 0.22, 0.3),
    "sitter": Thing("person", things_people.sitter, 1.0, 0.45, 0.3),
    "cyclist": Thing("person", _cyclist, 1.55, 0.85, 0.25),
    "snowman": Thing("snowman", things_people.snowman, 1.6, 0.4, 0.3, "grain", 0.015),
    "tree": Thing("tree", things_plants.tree, 7.0, 0.36, 0.3, "leaf", 0.1),
    "broadleaf": Thing("tree", things_plants.broadleaf, 7.5, 0.4, 0.3, "leaf", 0.1),
    "conifer": Thing("tree", things_plants.conifer, 9.0, 0.26, 0.25, "leaf", 0.08),
    "winter tree": Thing("tree", things_plants.winter_tree, 7.0, 0.28, 0.22, "leaf", 0.05),
    "acacia": Thing("tree", things_plants.acacia, 6.0, 0.58, 0.3, "leaf", 0.1),
    "palm": Thing("palm", things_plants.palm, 7.0, 0.36, 0.22),
    "bush": Thing("bush", things_plants.bush, 1.3, 0.7, 0.3, "leaf", 0.12),
    "cactus": Thing("cactus", things_plants.cactus, 3.4, 0.3, 0.34),
    "flower": Thing("flower", things_flowers.flower, 0.8, 0.26, 0.25),
    "flowers": Thing("flower", things_flowers.flowers, 0.6, 1.05, 0.18, shadow=0.2),
    "house": Thing("house", things_buildings.house, 6.0, 0.72, 0.07, "grain", 0.025),
    "cabin": Thing("house", things_buildings.snowy_house, 5.0, 0.75, 0.1, "grain", 0.02),
    "building": Thing("building", things_buildings.building, 17.0, 0.34, 0.04, "grain", 0.025),
    "church": Thing("church", things_landmarks.church, 15.0, 0.5, 0.07, "grain", 0.03),
    "castle": Thing("castle", things_landmarks.castle, 26.0, 0.6, 0.08, "leaf", 0.03),
    "windmill": Thing("windmill", things_landmarks.windmill, 13.0, 0.46, 0.12, "grain", 0.02),
    "barn": Thing("barn", things_landmarks.barn, 7.0, 0.7, 0.08, "bark", 0.03),
    "lighthouse": Thing("lighthouse", things_landmarks.lighthouse, 18.0, 0.15, 0.18),
    "car": Thing("car", things_street.car, 1.55, 1.15, 0.26),
    "truck": Thing("truck", things_street.truck, 3.0, 1.1, 0.18),
    "bus": Thing("bus", things_street.bus, 3.0, 1.3, 0.14),
    "train": Thing("train", things_street.train, 3.6, 4.4, 0.16),
    "bicycle": Thing("bicycle", things_street.bicycle, 1.15, 0.9, 0.1, shadow=0.25),
    "tractor": Thing("tractor", things_street.tractor, 2.6, 0.75, 0.22),
    "lamp": Thing("lamp", things_street.street_lamp, 5.0, 0.15, 0.1),
    "traffic light": Thing("traffic light", things_street.traffic_light, 4.0, 0.12, 0.15),
    "bench": Thing("bench", things_street.bench, 0.95, 1.05, 0.15),
    "fence": Thing("fence", things_street.fence, 1.1, 2.4, 0.1, shadow=0.2),
    "boat": Thing("boat", things_travel.boat, 7.0, 0.6, 0.2, shadow=0.0),
    "ship": Thing("ship", things_travel.ship, 20.0, 1.5, 0.12, shadow=0.0),
    "balloon": Thing("balloon", things_travel.balloon, 9.0, 0.4, 0.4, shadow=0.0),
    "plane": Thing("plane", things_travel.plane, 7.0, 1.5, 0.3, shadow=0.0),
    "kite": Thing("kite", things_travel.kite, 2.2, 0.25, 0.12, shadow=0.0),
    "umbrella": Thing("umbrella", things_travel.umbrella, 2.3, 0.56, 0.25),
    "tent": Thing("tent", things_travel.tent, 1.6, 1.1, 0.15, "grain", 0.02),
    "rock": Thing("rock", things_travel.rock, 1.1, 1.0, 0.16, "leaf", 0.06),
    "table": Thing("table", things_furniture.table, 0.8, 1.1, 0.1, "water", 0.04),
    "chair": Thing("chair", things_furniture.chair, 1.0, 0.36, 0.2),
    "sofa": Thing("sofa", things_furniture.sofa, 0.95, 1.2, 0.22, "grain", 0.03),
    "standing lamp": Thing("lamp", things_furniture.standing_lamp, 1.6, 0.2, 0.15),
    "hanging lamp": Thing("lamp", things_furniture.hanging_lamp, 0.9, 0.4, 0.2, shadow=0.0),
    "vase": Thing("vase", things_tableware.vase, 0.6, 0.42, 0.22),
    "cup": Thing("cup", things_tableware.cup, 0.2, 0.62, 0.25),
    "fruit": Thing("fruit", things_tableware.fruit, 0.36, 0.72, 0.25),
    "apple": Thing("fruit", things_tableware.apple, 0.24, 0.48, 0.4),
    "book": Thing("book", things_tableware.book, 0.32, 0.8, 0.08),
    "candle": Thing("candle", things_tableware.candle, 0.4, 0.26, 0.15),
    "window": Thing("window", things_furniture.window, 1.4, 0.72, 0.05, shadow=0.0),
    "picture frame": Thing("", things_furniture.picture_frame, 0.7, 0.8, 0.05, shadow=0.0),
}
