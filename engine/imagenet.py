"""From the 1,000 ImageNet classes of a backbone's own head to the tags that people use."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse
from timm.data.imagenet_info import ImageNetInfo

from engine.wordnet import Nouns, read_nouns

CLASSES = 1000

BASIC_WEIGHT = 1.0
DETAIL_WEIGHT = 0.6
GENERAL_WEIGHT = 0.4

PACKAGED_WORDS = Path(__file__).with_name("imagenet_words.json")
"""What `class_words` gives of WordNet 3.0, for where that is not installed.

JSON: a class's synset id to its [word, weight] pairs. `python -m engine.imagenet_words` writes it
anew; NOTICE-wordnet.txt beside it is WordNet's licence.
"""


def _table(entries: str) -> dict[str, str]:
    """A synset id to what follows it, of entries with commas between them."""
    pairs = (entry.strip().partition(" ") for entry in entries.replace("\n", " ").split(","))
    return {synset: words for synset, _, words in pairs}


# A class is called by the first of its lemmas, but for these, where that one is rare ("ashcan"),
# commonly another thing ("kite", the bird) or the name of two classes ("crane", "maillot"). Of
# several names the commonest is first.
_NAMES = _table("""
n01514668 rooster/chicken, n01514859 hen/chicken, n01608432 kite bird, n01631663 newt,
n01817953 grey parrot, n01871265 elephant/tusker, n02086910 papillon dog,
n02096051 airedale terrier, n02096177 cairn terrier, n02096437 dandie dinmont terrier,
n02096585 boston terrier, n02098413 lhasa apso, n02108089 boxer dog, n02109961 husky,
n02111129 leonberger, n02111277 newfoundland dog, n02112137 chow chow, n02113023 pembroke corgi,
n02113186 cardigan corgi, n02134084 polar bear, n02276258 admiral butterfly,
n02277742 ringlet butterfly, n02279972 monarch butterfly, n02325366 cottontail rabbit,
n02328150 angora rabbit, n02389026 sorrel horse, n02395406 pig, n02437312 dromedary,
n02497673 ring-tailed lemur, n02509815 red panda, n02510455 panda, n02514041 barracuda,
n02536864 coho salmon, n02607072 clownfish, n02655020 pufferfish, n02704792 amphibious vehicle,
n02747177 trash can, n02786058 bandage, n02788148 banister, n02797295 wheelbarrow,
n02814533 station wagon, n02814860 lighthouse, n02892201 plaque, n02892767 bra, n02930766 taxi,
n02992529 cellphone, n03000684 chainsaw, n03017168 bell, n03089624 candy store,
n03126707 construction crane, n03337140 filing cabinet, n03445924 golf cart, n03476991 hairspray,
n03483316 hair dryer, n03492542 hard disk, n03534580 hoop skirt, n03594734 jeans,
n03595614 t-shirt, n03599486 rickshaw, n03673027 ocean liner, n03692522 magnifying glass,
n03710637 swimsuit, n03710721 swimsuit, n03773504 rocket/missile, n03793489 computer mouse,
n03825788 baby bottle, n03832673 laptop, n03866082 skirt, n03877472 pajamas, n03902125 payphone,
n03929660 guitar pick, n03929855 spiked helmet, n03947888 pirate ship, n03954731 carpenter's plane,
n03983396 soda bottle, n03991062 flowerpot, n04008634 rocket/missile, n04019541 hockey puck,
n04037443 race car, n04039381 tennis racket, n04118776 ruler, n04120489 running shoes,
n04141076 saxophone, n04243546 slot machine, n04254777 socks, n04346328 stupa/temple,
n04355933 sunglasses, n04367480 mop, n04399382 teddy bear, n04515003 upright piano,
n04517823 vacuum cleaner, n04553703 sink, n04554684 washing machine, n04592741 airplane wing,
n04606251 shipwreck, n06359193 website, n06785654 crossword, n07248320 book cover,
n07579787 meal/plate, n07615774 popsicle, n07684084 baguette, n07697537 hot dog, n07714571 cabbage,
n07742313 green apple, n07831146 carbonara/pasta, n09332890 lake/lakeside,
n09399592 coast/headland, n09428293 beach/sea, n10148035 groom/wedding, n11879895 rapeseed/field,
n12267677 acorn/nut, n12620546 rose hip, n12768682 nut/horse chestnut, n13133613 ear of corn/corn,
n15075141 toilet paper
""")

# The words that people use, by the synset of WordNet 3.0 for whose kinds they use them. First
# the level at which a thing is named at sight ...
_BASIC = _table("""
00007846 person, 01482330 shark, 01495701 ray, 01503061 bird, 01613294 eagle, 01621127 owl,
01629276 salamander, 01639765 frog, 01662784 turtle, 01674464 lizard, 01696633 crocodile,
01699831 dinosaur, 01726692 snake, 01772222 spider, 01795088 grouse, 01816887 parrot,
01846331 duck, 01858441 swan, 01877134 kangaroo, 01915811 coral, 01922303 worm, 01976957 crab,
01982650 lobster, 02002075 stork, 02008041 heron, 02055803 penguin, 02062744 whale,
02068974 dolphin, 02076196 seal, 02084071 dog, 02092468 terrier, 02099029 retriever,
02101108 spaniel, 02112826 corgi, 02113335 poodle, 02114100 wolf, 02115335 wild dog, 02118333 fox,
02121808 cat, 02124623 wildcat, 02127808 big cat, 02131653 bear, 02164464 beetle,
02274259 butterfly, 02323902 rabbit, 02355227 squirrel, 02374451 horse, 02395003 pig, 02402425 cow,
02411705 sheep, 02416519 goat, 02419796 antelope, 02437136 camel, 02456962 sloth, 02470325 ape,
02484322 monkey, 02496913 lemur, 02503517 elephant, 02512053 fish, 02739668 armor, 02740764 armor,
02766320 crib, 02773037 bag, 02778669 ball, 02801938 basket, 02818832 bed, 02820210 blanket,
02828884 bench, 02834778 bicycle, 02858304 boat, 02872752 boots, 02876657 bottle, 02880940 bowl,
02883344 box, 02898711 bridge, 02908217 brush, 02913152 building, 02924116 bus, 02933112 cabinet,
02942699 camera, 02954340 cap, 02958343 car, 02959942 train, 02970849 cart, 03001627 chair,
03046257 clock, 03057021 coat, 03082979 computer, 03151077 curtain, 03221720 door, 03236735 dress,
03327234 fence, 03385557 castle, 03427296 gate, 03438257 glass, 03441112 gloves, 03450516 robe,
03467517 guitar, 03467984 gun, 03497657 hat, 03510583 airplane, 03513137 helmet, 03593526 jar,
03597469 jewelry, 03603722 jug, 03614007 keyboard, 03623556 knife, 03636248 lamp, 03682487 lock,
03684823 train, 03725035 mask, 03743902 monument, 03773035 mirror, 03790512 motorcycle,
03797390 cup, 03815615 tie, 03880531 pan, 03906997 pen, 03928116 piano, 03990474 pot,
04097866 robe, 04105068 roof, 04118021 rug, 04128837 boat, 04143897 scarf, 04194289 ship,
04197391 shirt, 04199027 shoes, 04202417 shop, 04230808 skirt, 04235291 sled, 04256520 sofa,
04272054 glasses, 04284002 spoon, 04370048 sweater, 04371563 swimsuit, 04379243 table,
04401088 phone, 04411264 tent, 04459362 towel, 04460130 tower, 04468005 train, 04489008 pants,
04490091 truck, 04508163 underwear, 04509592 uniform, 04520170 van, 04555897 watch, 04574999 wheel,
06595351 magazine, 06791372 sign, 06793231 sign, 07583197 soup, 07588947 stew, 07609840 dessert,
07679356 bread, 07695965 sandwich, 07697100 hamburger, 07710616 potato, 07713895 cabbage,
07715561 squash, 07720442 pepper, 07739125 apple, 07829412 sauce, 07891726 wine, 07929519 coffee,
09359803 mountain, 11669921 flower, 12041446 orchid, 12992868 mushroom
""")

# ... then what such things are kinds of, or where they belong.
_GENERAL = _table("""
00015388 animal, 00017222 plant, 00021265 food, 01661091 reptile, 02159955 insect,
02686568 aircraft, 02699494 architecture, 02729837 appliance, 02747177 street, 02778669 sports,
02786058 medicine, 02788148 architecture, 02794156 instrument, 02795169 container, 02804414 baby,
02808440 bathroom, 02825657 architecture, 02834397 baby, 02840245 office, 02841315 instrument,
02843684 garden, 02877765 kitchen, 02894605 harbor, 02906734 home, 02909870 home,
02910353 clothing, 02966193 toy, 02966687 tool, 02971356 container, 02978881 container,
03042490 architecture, 03045698 clothing, 03051540 clothing, 03062245 kitchen,
03078287 electronics, 03085013 electronics, 03125729 baby, 03126707 industry, 03127925 container,
03131574 baby, 03141823 medicine, 03160309 architecture, 03188531 baby, 03208938 vehicle,
03216828 harbor, 03220513 architecture, 03223299 home, 03240683 industry, 03250847 music,
03269401 electronics, 03271574 home, 03277771 electronics, 03278248 electronics, 03291819 office,
03309808 fabric, 03347037 home, 03355925 street, 03380867 footwear, 03381126 footwear,
03388043 architecture, 03405725 furniture, 03413828 game, 03425413 street, 03457902 garden,
03459775 vehicle, 03461385 shop, 03467068 weapon, 03476684 clothing, 03492542 electronics,
03527444 weapon, 03532672 tool, 03544143 home, 03598930 toy, 03620052 kitchen, 03621049 kitchen,
03633091 kitchen, 03637318 light, 03649909 garden, 03657121 electronics, 03666591 light,
03692522 instrument, 03697007 industry, 03699975 machine, 03706229 instrument, 03717622 street,
03729826 light, 03733281 architecture, 03733805 kitchen, 03764736 kitchen, 03786901 kitchen,
03788365 window, 03800933 musical instrument, 03804744 tool, 03814639 medicine, 03825788 baby,
03837869 architecture, 03841143 instrument, 03843555 vehicle, 03868863 medicine,
03871628 container, 03873416 sports, 03877845 architecture, 03888257 sports, 03891332 street,
03899768 architecture, 03903868 architecture, 03908714 office, 03924679 office, 03929660 music,
03930313 garden, 03933933 harbor, 03935335 home, 03938244 home, 03944341 toy, 03950228 kitchen,
03961711 kitchen, 03964744 toy, 03970156 bathroom, 03991062 garden, 04005630 architecture,
04009552 office, 04019101 vehicle, 04019541 sports, 04026417 clothing, 04039381 sports,
04040759 home, 04044716 instrument, 04049303 garden, 04074963 electronics, 04116512 office,
04118776 office, 04127249 sewing, 04131690 kitchen, 04141327 weapon, 04141975 instrument,
04149813 sports, 04153751 tool, 04201297 window, 04209239 bathroom, 04228054 sports,
04251144 sports, 04254120 bathroom, 04258138 industry, 04263760 light, 04264628 electronics,
04265275 home, 04277352 sewing, 04285146 sports, 04296562 music, 04317175 medicine,
04328186 sports, 04330267 kitchen, 04332243 kitchen, 04336792 medicine, 04355338 instrument,
04355933 clothing, 04356056 clothing, 04367480 home, 04372370 electronics, 04376876 medicine,
04381994 tableware, 04423845 sewing, 04447443 cosmetics, 04447861 bathroom, 04451818 tool,
04458633 architecture, 04476259 kitchen, 04486054 architecture, 04493381 bathroom, 04507155 home,
04523525 architecture, 04524313 vehicle, 04548362 clothing, 04553703 bathroom, 04562935 industry,
04565375 weapon, 04579432 sports, 04589890 window, 04590129 window, 04592741 aircraft,
04613696 architecture, 06596364 book, 06794110 street, 06874185 street, 07248320 book,
07555863 food, 07705931 fruit, 07707451 vegetable, 07881800 drink, 09287968 landscape,
12267677 plant, 12620546 plant, 13133613 plant, 13135832 plant, 15075141 bathroom
""")


@dataclass(frozen=True, eq=False)
class ClassTags:
    """The tags of the classes, and how likely a person is to write each.

    tags: V tags, unique, in alphabetical order.
    membership_CV: float32, 1 where class c carries tag v.
    weights_V: float32 in (0, 1], how ready people are to call such a thing by this word. People
        name a thing at the basic level first (Rosch et al., Basic objects in natural categories,
        1976): BASIC_WEIGHT for a word of that level and for a class that has none above it;
        DETAIL_WEIGHT for what is below one ("beagle") and for a second name; GENERAL_WEIGHT for
        the words above ("animal") and for the places of things ("kitchen").
    """

    tags: tuple[str, ...]
    membership_CV: sparse.csr_array[np.float32]
    weights_V: npt.NDArray[np.float32]

    def scores(self, probabilities_BC: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """How well each tag suits each picture, float32 [B, V] in [0, 1], of the head's softmax.

        A tag is as likely as its classes are together. Taken as it is, this would put "animal"
        first on every photo, for two reasons, each with its remedy. The little that the softmax
        leaves on every class adds up where a tag has hundreds of them: only what a tag has
        beyond its share of the classes n_v / 1000 counts, as in Cohen's kappa. And a word is
        never less likely than one below it, however little it says: hence the weights.

            scores_v = weights_v * max(0, (p_v - n_v / 1000) / (1 - n_v / 1000))

        A beagle is then dog, beagle, animal; a dog of no certain breed dog, animal.
        """
        chance_V: npt.NDArray[np.float32] = self.membership_CV.mean(axis=0)
        likely_BV: npt.NDArray[np.float32] = probabilities_BC @ self.membership_CV
        beyond_BV = ((likely_BV - chance_V) / (1 - chance_V)).clip(0, 1)
        return (beyond_BV * self.weights_V).astype(np.float32)


def class_tags(wordnet_folder: Path | None) -> ClassTags:
    """The tags of the 1,000 classes, these in the order of the head (that of the synset ids).

    A class has its own name and the everyday words above it: by the WordNet in the folder (see
    `find_wordnet`), or with None by PACKAGED_WORDS, which is the same. Raises ConfigError where
    the folder does not hold the whole of WordNet 3.0's nouns.
    """
    words = _packaged_words() if wordnet_folder is None else class_words(read_nouns(wordnet_folder))
    info = ImageNetInfo()
    weights: dict[str, float] = {}
    carried: list[tuple[int, str]] = []
    for index in range(CLASSES):
        synset = info.index_to_label_name(index)
        lifted = words[synset]
        is_detail = any(weight > GENERAL_WEIGHT for weight in lifted.values())
        own_weight = DETAIL_WEIGHT if is_detail else BASIC_WEIGHT
        first_lemma = info.index_to_description(index).partition(",")[0].lower()
        name, *others = _NAMES.get(synset, first_lemma).split("/")
        own = {name: own_weight} | dict.fromkeys(others, DETAIL_WEIGHT)
        for tag, weight in (own | lifted).items():
            carried.append((index, tag))
            weights[tag] = max(weight, weights.get(tag, 0))
    tags = tuple(sorted(weights))
    column = {tag: v for v, tag in enumerate(tags)}
    rows = [index for index, _ in carried]
    columns = [column[tag] for _, tag in carried]
    membership_CV = sparse.csr_array(
        (np.ones(len(carried), np.float32), (rows, columns)), shape=(CLASSES, len(tags))
    )
    weights_V = np.array([weights[tag] for tag in tags], np.float32)
    return ClassTags(tags, membership_CV, weights_V)


def class_words(nouns: Nouns) -> dict[str, dict[str, float]]:
    """The everyday words of each of the 1,000 classes, by synset id ("n02123045"), and weights.

    Raises ConfigError where WordNet lacks the synset of a class.
    """
    info = ImageNetInfo()
    synsets = [info.index_to_label_name(index) for index in range(CLASSES)]
    return {synset: everyday_words(synset.removeprefix("n"), nouns) for synset in synsets}


def _packaged_words() -> dict[str, dict[str, float]]:
    pairs: dict[str, list[tuple[str, float]]] = json.loads(PACKAGED_WORDS.read_text("utf-8"))
    return {synset: dict(words) for synset, words in pairs.items()}


def everyday_words(offset: str, nouns: Nouns) -> dict[str, float]:
    """The everyday words for a synset (its offset, eight digits), the nearest first, and weights.

    Raises ConfigError where WordNet lacks the synset.
    """
    line = (offset, *nouns.above(offset))
    words: dict[str, float] = {}
    for synset in line:
        if word := _BASIC.get(synset):
            has_basic_above = any(_BASIC.get(a, word) != word for a in nouns.above(synset))
            words.setdefault(word, DETAIL_WEIGHT if has_basic_above else BASIC_WEIGHT)
    for synset in line:
        if word := _GENERAL.get(synset):
            words.setdefault(word, GENERAL_WEIGHT)
    return words
