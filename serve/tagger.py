"""A server as the annotation job sees it: pictures in, tags out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from engine.cut import TopK
from engine.errors import ConfigError
from engine.image import ImageErrorCode
from serve.client import Client
from serve.models import MOST_CHARACTERS, MOST_SOCIAL_TAGS


@dataclass(frozen=True)
class Result:
    """A picture's tags and scores, best first, or its error code and reason."""

    tags: tuple[tuple[str, float], ...]
    error: tuple[str, str] | None


@dataclass(frozen=True)
class _Sent:
    data: bytes
    social_tags: tuple[str, ...]


class ServerTagger:
    """Tags by a server; a bundle swapped in the midst of a job is an error of the job's."""

    def __init__(self, client: Client) -> None:
        """Ask the server what it is.

        Raises:
            ServerError: it cannot be reached, or refuses.
        """
        described = client.bundle()
        self._client = client
        self.bundle_id = described.id
        self.most = described.max_pictures
        # In base64 a picture is a third longer; the rest of the JSON is short.
        self._bytes = described.max_body_bytes * 3 // 4 - 10_000

    def __call__(
        self, pictures: list[bytes], social_tags: list[tuple[str, ...]], top_k: TopK
    ) -> Iterator[Result]:
        """Tag pictures, in their order; of more social tags than a server takes the first ones.

        Raises:
            ServerError: the server refuses or cannot be reached.
            ConfigError: it has another bundle by now.
        """
        for group in self._groups(pictures, [_sendable(words) for words in social_tags]):
            if sum(map(_size, group)) > self._bytes:
                size = len(group[0].data)
                reason = f"{size} bytes, over what this server takes ({self._bytes})"
                yield Result((), (str(ImageErrorCode.TOO_LARGE), reason))
                continue
            answer = self._client.annotate(
                [sent.data for sent in group],
                top_k=top_k,
                social_tags=[sent.social_tags for sent in group],
            )
            if answer.bundle_id != self.bundle_id:
                raise ConfigError(
                    f"the server went from bundle {self.bundle_id} to {answer.bundle_id} during "
                    "the job; run it again into a new folder"
                )
            for one in answer.results:
                tags = tuple((tag.tag, tag.score) for tag in one.tags)
                problem = one.error
                yield Result(tags, None if problem is None else (problem.code, problem.reason))

    def _groups(
        self, pictures: list[bytes], social_tags: list[tuple[str, ...]]
    ) -> Iterator[list[_Sent]]:
        """The pictures in requests that the server takes; one that is too large is alone."""
        group: list[_Sent] = []
        size = 0
        for data, words in zip(pictures, social_tags, strict=True):
            one = _Sent(data, words)
            if group and size + _size(one) > self._bytes:
                yield group
                group, size = [], 0
            group.append(one)
            size += _size(one)
        if group:
            yield group


def _size(one: _Sent) -> int:
    """Bytes of a picture, and of its social tags in JSON."""
    return len(one.data) + len(json.dumps(one.social_tags))


def _sendable(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if len(word) <= MOST_CHARACTERS)[:MOST_SOCIAL_TAGS]
