"""A Loop or a Scan whose steps are counted while the network runs is a layer around the network of one step."""

import subprocess
import sys

import keras
import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from portnet.errors import UnsupportedError
from portnet.graph.model import Model
from portnet.runtime.session import Session


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parse(text, **weights):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return Model.from_bytes(proto.SerializeToString())


def recurrent():
    """A cell written out by hand: as many steps as there are entries, which a Gather inside the body picks."""
    return parse(
        """g (float[T,N,4] x) => (float[N,3] last, float[T,N,3] all) {
            s = Shape(x) zero = Constant<value = int64[1] {0}>() one = Constant<value = int64[1] {1}>()
            t = Gather(s, zero) trips = Squeeze(t) n = Gather(s, one)
            three = Constant<value = int64[1] {3}>() size = Concat<axis = 0>(n, three)
            start = ConstantOfShape(size) yes = Constant<value = int64 {1}>() go = Cast<to = 9>(yes)
            last, all = Loop(trips, go, start) <body = step (int64 i, bool c, float[N,3] h)
                => (bool d, float[N,3] k, float[N,3] o) {
                d = Identity(c) e = Gather(x, i) a = MatMul(e, w) b = MatMul(h, r) p = Add(a, b) q = Add(p, u)
                k = Tanh(q) o = Identity(k) }> }""",
        w=array(4, 3),
        r=array(3, 3, seed=1),
        u=array(3, seed=2),
    )


def agree(lowered, session, feed, **tolerance):
    for name, expected in session.run(feed).items():
        got = lowered.run(feed)[name]
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(got, expected, **{"rtol": 1e-5, "atol": 1e-6} | tolerance)


def test_steps_are_counted_train_and_are_saved(engine, tmp_path):
    model = recurrent()
    lowered, session = engine.lower(model), Session(model)
    assert lowered.trainable_count == 12 + 9 + 3
    for steps, batch in ((5, 2), (1, 3), (40, 1)):
        agree(lowered, session, {"x": array(steps, batch, 4)})

    before = {name: value.copy() for name, value in lowered.weights().items() if name in "wru"}
    lowered.native.compile(optimizer=keras.optimizers.SGD(0.1), loss=["mse", None])
    lowered.native.fit(array(5, 5, 4), np.ones((5, 3), np.float32), batch_size=5, verbose=0)
    after = lowered.weights()
    assert all((after[name] != before[name]).any() for name in before)

    lowered.native.save(tmp_path / "loop.keras")
    x = array(7, 2, 4)
    np.save(tmp_path / "x.npy", x)
    script = f"""
import keras, numpy, portnet_keras.layers
network = keras.saving.load_model({str(tmp_path / "loop.keras")!r})
last, every = network.predict(numpy.load({str(tmp_path / "x.npy")!r}), batch_size=7, verbose=0)
numpy.save({str(tmp_path / "y.npy")!r}, last)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), lowered.run({"x": x})["last"], rtol=1e-5, atol=1e-6)


def test_gradients_through_counted_steps_are_those_of_torch(engine):
    torch = pytest.importorskip("torch")
    model = recurrent()
    lowered, x = engine.lower(model), array(6, 2, 4)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        last, every = lowered.native(x, training=True)
        loss = tf.reduce_sum(last**2) + tf.reduce_sum(every)
    ours = tape.gradient(loss, lowered.native.trainable_weights)
    w, r, u = (torch.tensor(model.weights()[name], requires_grad=True) for name in "wru")
    h, total = torch.zeros(2, 3), 0.0
    for entry in torch.tensor(x):
        h = torch.tanh(entry @ w + h @ r + u)
        total = total + h.sum()
    (total + (h**2).sum()).backward()
    theirs = {tuple(p.shape): p.grad.numpy() for p in (w, r, u)}
    assert len(ours) == 3
    for gradient in ours:
        np.testing.assert_allclose(gradient, theirs[tuple(gradient.shape)], rtol=1e-4, atol=1e-5)


def test_a_condition_that_is_computed_ends_the_loop(engine):
    model = parse("""g (float x, int64 n) => (float y, float[T] all) {
        yes = Constant<value = int64 {1}>() go = Cast<to = 9>(yes)
        y, all = Loop(n, go, x) <body = step (int64 i, bool c, float h) => (bool d, float k, float o) {
            two = Constant<value = float {2.0}>() limit = Constant<value = float {100.0}>()
            k = Mul(h, two) d = Less(k, limit) o = Identity(h) }> }""")
    lowered, session = engine.lower(model), Session(model)
    for x, n in ((3.0, 4), (3.0, 100), (1.5, 0), (200.0, 9)):
        agree(lowered, session, {"x": np.array(x, np.float32), "n": np.array(n)})


def test_a_state_may_grow(engine):
    model = parse("""g (float[N] x, int64 n) => (float[M] y) {
        yes = Constant<value = int64 {1}>() go = Cast<to = 9>(yes)
        y = Loop(n, go, x) <body = step (int64 i, bool c, float[K] h) => (bool d, float[L] k) {
            d = Identity(c) k = Concat<axis = 0>(h, x) }> }""")
    lowered, session = engine.lower(model), Session(model)
    for n in (0, 1, 3):
        agree(lowered, session, {"x": array(2), "n": np.array(n)})


@pytest.mark.parametrize("length", ["T", "300"])
@pytest.mark.parametrize("backwards", [0, 1])
def test_a_scan_along_any_axis_in_any_direction(engine, length, backwards):
    model = parse(
        f"""g (float[N,{length},4] x, float[N,3] h0) => (float[N,3] h, float[N,3,{length}] y) {{
        h, y = Scan(h0, x) <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1],
            scan_input_directions = [{backwards}], scan_output_directions = [{1 - backwards}],
            body = step (float[N,3] a, float[N,4] e) => (float[N,3] b, float[N,3] o)
            {{ p = MatMul(e, w) q = Add(p, a) b = Tanh(q) o = Mul(b, e0) }}> }}""",
        w=array(4, 3),
        e0=array(3),
    )
    lowered, session = engine.lower(model), Session(model)
    for n, t in ((2, 300), (1, 300)) if length == "300" else ((2, 5), (1, 33)):
        agree(lowered, session, {"x": array(n, t, 4), "h0": array(n, 3)}, rtol=1e-4, atol=1e-5)


def test_a_state_whose_rank_changes_is_refused(engine):
    model = parse("""g (float[N] x, int64 n) => (float y) {
        yes = Constant<value = int64 {1}>() go = Cast<to = 9>(yes) a = Constant<value = int64[1] {0}>()
        y = Loop(n, go, x) <body = step (int64 i, bool c, float[N] h) => (bool d, float[1,N] k) {
            d = Identity(c) k = Unsqueeze(h, a) }> }""")
    with pytest.raises(UnsupportedError, match="rank"):
        engine.lower(model)
