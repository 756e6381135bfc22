"""Values between the pixels of maps whose sizes stay free, against onnxruntime."""

import pytest
from test_free_sizes import agree, array, engine, parse

from portnet.errors import UnsupportedError

__all__ = ["engine"]

TEXT = """g (float[N,3,H,W] x, float[N,A,B,2] at) => (float[N,3,A,B] y) {{
    y = GridSample<mode = "{mode}", padding_mode = "{padding}", align_corners = {corners}>(x, at) }}"""


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_a_map_of_any_size_is_sampled_at_any_number_of_points(engine, mode, padding):
    feeds = [
        {"x": array(2, 3, 5, 4), "at": array(2, 3, 6, 2, seed=1)},
        {"x": array(1, 3, 2, 7), "at": array(1, 4, 2, 2, seed=2) * 2},
        {"x": array(1, 3, 1, 1), "at": array(1, 1, 3, 2, seed=3)},
    ]
    for corners in (0, 1):
        model = parse(TEXT.format(mode=mode, padding=padding, corners=corners))
        if engine.name == "keras":
            with pytest.raises(UnsupportedError, match=r"^keras: GridSample .* 'y': free sizes$"):
                engine.lower(model)
        else:
            agree(engine, model, *feeds)
