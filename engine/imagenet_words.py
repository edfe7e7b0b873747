"""Writes imagenet_words.json anew, of WordNet 3.0 where installed: -m engine.imagenet_words."""

import json

from engine.imagenet import PACKAGED_WORDS, class_words
from engine.wordnet import FOLDERS, find_wordnet, read_nouns


def packaged(words: dict[str, dict[str, float]]) -> str:
    """The file's text: JSON, one class a line, so that a change shows class by class."""
    lines = (
        f"{json.dumps(synset)}:{json.dumps(list(of.items()), separators=(',', ':'))}"
        for synset, of in words.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    nouns = read_nouns(find_wordnet() or FOLDERS[0])
    PACKAGED_WORDS.write_text(packaged(class_words(nouns)), encoding="utf-8")
