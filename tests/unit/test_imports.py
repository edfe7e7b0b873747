"""What annotating imports: a worker with an exported graph must not pay for what fitting needs."""

import subprocess
import sys

HEAVY = ("torch", "torchvision", "timm", "transformers", "sklearn")
SCRIPT = f"""
import sys
import jobs.annotate, jobs.runner
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_annotating_imports_nothing_that_only_fitting_needs() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
