from __future__ import annotations

from tests.fixtures_maps import segmented  # noqa: F401
