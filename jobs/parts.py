"""Fits a recipe in parts: one Ray task a part, as many at a time as the cluster has room for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ray
from ray.exceptions import RayError, RayTaskError

from engine.config import TrainingConfig
from engine.corpus import Corpus
from engine.division import Divisible
from engine.errors import TagloomError, TrainingError
from engine.group import Solo
from engine.recipe import Annotator
from engine.vocab import Vocabulary
from jobs.session import cluster_resources
from jobs.shards import read_blocks, write_blocks


def fit_in_parts(
    recipe: Divisible[object],
    corpus: Corpus,
    vocabulary: Vocabulary,
    folder: Path,
    settings: TrainingConfig,
    say: Callable[[str], None],
) -> Annotator:
    """Fit the parts side by side, with the corpus in an empty folder that all workers share.

    A part whose worker died is begun again, `settings.restarts` times; the others stand.

    Raises:
        TagloomError: a part raised it.
        TrainingError: a part's worker died more often than that.
    """
    blocks = write_blocks(corpus, folder, 1)
    gpus = cluster_resources().get("GPU", 0)
    task = _fit_part.options(num_gpus=1 if gpus else 0, max_retries=settings.restarts)
    names = recipe.parts()
    stop = folder / "stop"
    running = [task.remote(recipe, name, blocks, stop) for name in names]
    try:
        parts = ray.get(running)
    except RayTaskError as error:
        if isinstance(error.cause, TagloomError):
            # The part's own error; Ray's would tell the worker's whole trace.
            raise error.cause from error
        raise
    except RayError as error:
        raise TrainingError(
            f"training '{recipe.kind}' lost a worker {settings.restarts + 1} times "
            f"({type(error).__name__}); look at the workers' memory, or raise training.restarts"
        ) from error
    finally:
        # Not cancelled: Ray's core ends the whole driver at times when a task ends meanwhile.
        stop.touch()
        ray.wait(running, num_returns=len(running), fetch_local=False)
    say(f"'{recipe.kind}' was trained in {len(names)} parts side by side")
    return recipe.join(parts, corpus, vocabulary, Solo())


@ray.remote(num_cpus=1)
def _fit_part(
    recipe: Divisible[object], name: str, blocks: Sequence[Mapping[str, object]], stop: Path
) -> object:
    """Learn one part in a worker, with one thread: two would share a core with another part.

    Args:
        stop: a file that is there once nobody wants the part any more.
    """
    if stop.exists():
        return None
    # Imported here, in the worker: what reads this file need not pay the seconds.
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1):
        return recipe.fit_part([name], read_blocks(blocks), Solo())
