"""The commands as a user types them, on every form of input, down to the rows that come out."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.sample import SamplePicture


QUICK = ("--set", "embed.backbone=random", "--set", "embed.compute=torch")


def _parts(output: Path) -> pa.Table:
    parts = sorted(output.glob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(part) for part in parts], promote_options="default")
