"""Processors import beside this torch, whatever build it is."""

import subprocess
import sys


def test_torchvision_imports_in_a_fresh_process_and_twice_is_free():
    code = (
        "from mode_core.models import ensure_torchvision\n"
        "ensure_torchvision(); import torchvision; ensure_torchvision()\n"
        "print(torchvision.transforms.InterpolationMode.BICUBIC.value)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "bicubic"
