#!/usr/bin/env python3
"""Print what this package needs with its extra ``demo``, without the package itself: it changes less often."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path


def requirements(setup_cfg: Path) -> list[str]:
    """Requirements of the package and of its extra ``demo``."""
    setup = configparser.ConfigParser()
    setup.read(setup_cfg)
    needs = setup["options"]["install_requires"] + setup["options.extras_require"]["demo"]
    return [line.strip() for line in needs.splitlines() if line.strip()]


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in requirements(Path("setup.cfg")))
