import numpy as np
import pytest

from portnet import zoo
from portnet.errors import InputError, UnknownNameError
from portnet.finetuning.backbone import Backbone
from portnet.finetuning.freeze import FreezePolicy
from portnet.finetuning.head import Head
from portnet.graph.parameters import Role


@pytest.fixture(scope="module")
def squeezenet():
    backbone = Backbone.of("squeezenet1_1", weights=None, size=64)
    return Head.natural().attach(backbone, ["cat", "dog", "hen"])


@pytest.fixture(scope="module")
def resnet():
    backbone = Backbone.of("resnet18", weights=None, size=64)
    return Head.mlp((16,)).attach(backbone, ["cat", "dog"])


def trainable(table):
    return [row.layer.name for row in table.rows if row.trainable]


def test_first_16_are_the_seven_convolutions_of_document_4(squeezenet):
    """MATLAB's layers(1:16) of SqueezeNet end with the 3×3 expand convolution of fire3."""
    table = FreezePolicy.first(16).resolve(squeezenet)
    frozen = [row.layer.name for row in table.rows if not row.trainable]
    assert len(frozen) == 7
    assert frozen[0] == "features.0"
    assert frozen[-1] == "features.4.expand3x3"


def test_squeezenet_with_three_classes_has_724k_learnables(squeezenet):
    """Document 1's summary says 724k for NumClasses = 3."""
    assert FreezePolicy.none().resolve(squeezenet).trainable_count == 1_235_496 - 513_000 + 512 * 3 + 3


def test_backbone_leaves_the_head(squeezenet):
    table = FreezePolicy.backbone().resolve(squeezenet)
    assert trainable(table) == ["head.conv"]
    assert table.trainable_count == 512 * 3 + 3


@pytest.mark.parametrize("name", ["fire5", "features.7", "features.7.concat"])
def test_until_takes_a_stage_or_a_layer(squeezenet, name):
    table = FreezePolicy.until(name).resolve(squeezenet)
    assert trainable(table)[0] == "features.9.squeeze"


def test_match_is_a_regular_expression_on_stage_or_layer(resnet):
    table = FreezePolicy.match("layer[12].*").resolve(resnet)
    frozen = {row.layer.stage for row in table.rows if not row.trainable}
    assert frozen == {"layer1", "layer2"}


def test_batch_norm_follows_its_layer_unless_told(resnet):
    def statistics(policy):
        return {row.layer.stage: row.statistics for row in policy.resolve(resnet).rows if row.statistics}

    auto = statistics(FreezePolicy.until("layer2"))
    assert (auto["layer1"], auto["layer3"], auto["head"]) == ("frozen", "train", "train")
    frozen = statistics(FreezePolicy.none(batch_norm="frozen"))
    assert (frozen["layer1"], frozen["layer4"], frozen["head"]) == ("frozen", "frozen", "train")
    train = statistics(FreezePolicy.until("layer2", batch_norm="train"))
    assert (train["layer1"], train["layer3"]) == ("train", "train")


def test_plan_covers_every_trainable_initializer(resnet):
    table = FreezePolicy.until("layer2", lr_mult={"head": 10}).resolve(resnet)
    expected = {name for name, role in resnet.roles.items() if role.trainable}
    assert set(table.parameters) == expected
    assert table.parameters["head.dense.weight"].lr_mult == 10
    assert not table.parameters["head.dense.bias"].decay
    assert table.parameters["head.dense.weight"].decay
    assert not table.parameters["conv1.weight"].trainable
    statistics = {name for name, role in resnet.roles.items() if role is Role.STATISTIC}
    assert table.frozen_statistics < statistics


def test_table_prints_layer_parameters_trainable_and_multiplier(squeezenet):
    text = str(FreezePolicy.backbone(lr_mult={"head": 10}).resolve(squeezenet))
    assert "parameters" in text.splitlines()[0]
    assert "lr ×" in text.splitlines()[0]
    assert any("head.conv" in line and line.endswith("10") for line in text.splitlines())
    assert "1,539 of 724,035 parameters train" in text


@pytest.mark.parametrize(
    ("text", "hint"), [("until:fire55", "fire5"), ("match:layr1.*", "Known"), ("frist:3", "first:N")]
)
def test_unknown_names_offer_the_nearest(squeezenet, text, hint):
    with pytest.raises(UnknownNameError, match=hint):
        FreezePolicy.parse(text).resolve(squeezenet)


@pytest.mark.parametrize("text", ["first:x", "first:-1", "until:", "match:(", "first:10000"])
def test_bad_arguments_are_one_line(squeezenet, text):
    with pytest.raises(InputError) as raised:
        FreezePolicy.parse(text).resolve(squeezenet)
    assert "\n" not in str(raised.value)


def test_nothing_left_to_train_is_an_error(squeezenet):
    with pytest.raises(InputError, match="freezes every layer"):
        FreezePolicy.match(".*").resolve(squeezenet)


def test_heads_start_from_the_same_seeded_numbers():
    backbone = Backbone.of("resnet18", weights=None, size=64)
    first, again, other = (Head.linear().attach(backbone, ["a", "b"], seed).weights() for seed in (1, 1, 2))
    assert np.array_equal(first["head.dense.weight"], again["head.dense.weight"])
    assert not np.array_equal(first["head.dense.weight"], other["head.dense.weight"])
    bound = np.sqrt(6 / (512 + 2))
    assert np.abs(first["head.dense.weight"]).max() <= bound
    assert np.abs(first["head.dense.weight"]).max() > bound * 0.9


def test_document_2_head_has_its_layers_in_order():
    backbone = Backbone.of("resnet50", weights=None, size=64)
    model = Head.mlp((512,), dropout=0.5, batch_norm=True).attach(backbone, [str(i) for i in range(101)])
    ops = [layer.op for layer in model.layers if layer.stage == "head"]
    regularised_dense = ["BatchNormalization", "Dropout", "Gemm"]
    assert ops == ["GlobalAveragePool", "Flatten", *regularised_dense, "Relu", *regularised_dense]
    assert model.outputs[0].shape == ("N", 101)


def test_conv_head_needs_a_feature_map():
    model = zoo.load("resnet18", weights=None, size=64)
    flat = next(layer.output for layer in model.layers if layer.op == "Flatten")
    backbone = Backbone.of(model, feature=flat)
    assert backbone.feature_rank == 2
    with pytest.raises(InputError, match="feature map"):
        Head.conv().attach(backbone, ["a", "b"])


def test_norms_and_biases_do_not_decay(resnet):
    plans = FreezePolicy.none().resolve(resnet).parameters
    decaying = {name for name, plan in plans.items() if plan.decay}
    assert "layer1.0.conv1.weight" in decaying
    assert all(np.ndim(resnet.weights()[name]) >= 2 for name in decaying)
    assert {name for name in plans if name.endswith("bias") or ".bn" in name}.isdisjoint(decaying)


def test_what_a_framework_had_frozen_is_frozen_array_by_array(resnet):
    model = resnet.copy() if hasattr(resnet, "copy") else resnet.with_weights({})
    norm = next(layer for layer in model.layers if layer.op == "BatchNormalization")
    conv = next(layer for layer in model.layers if layer.op == "Conv")
    scale = next(name for name, role, _ in norm.initializers if role is Role.NORM_SCALE)
    kernel = conv.initializers[0][0]
    statistics = [name for name, role, _ in norm.initializers if role is Role.STATISTIC]
    model.metadata.provenance = {"frozen": {"parameters": [kernel, scale], "statistics": statistics}}
    table = FreezePolicy.parse("captured").resolve(model)
    assert table.frozen == sorted([kernel, scale, *statistics])
    sizes = {name: size for layer in model.layers for name, _, size in layer.initializers}
    assert table.total_count - table.trainable_count == sizes[kernel] + sizes[scale]
    assert f"yes, but {scale}, statistics frozen" in str(table)


def test_captured_needs_a_network_that_came_with_something_frozen(squeezenet):
    with pytest.raises(InputError, match="of which none are recorded"):
        FreezePolicy.captured().resolve(squeezenet)
