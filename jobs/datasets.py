"""What all data sets of a job have in common: Ray Data says nothing of them."""

import logging

from ray.data import DataContext


def be_quiet(context: DataContext) -> None:
    """No bars and no talk: the job tells its user what there is to tell.

    Args:
        context: of one data set, or the current one, of which those to come have copies.
    """
    # Here, where Ray Data is imported, for its import sets this anew.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
