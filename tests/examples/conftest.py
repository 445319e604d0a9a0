from __future__ import annotations

from tests.fixtures_maps import map_images, segmented  # noqa: F401
