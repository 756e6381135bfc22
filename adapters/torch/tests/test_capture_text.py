"""What networks for text are made of: masks, arguments by name, casts between attention and its output."""

import numpy as np
import pytest
import torch
from portnet_torch.capturing import exporting
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import portnet
from portnet.errors import InputError, ModelError
from portnet.runtime.session import Session


class Attention(nn.Module):
    """Self-attention whose mask is an argument behind one that nobody gives; T5's way of casting."""

    def __init__(self, additive=False):
        super().__init__()
        self.qkv, self.out, self.norm = nn.Linear(8, 24), nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.additive = additive

    def forward(self, x, memory=None, attention_mask=None):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 2, 12).transpose(1, 2).split(4, -1)
        mask = None if attention_mask is None else attention_mask[:, None, None].bool()
        if self.additive and mask is not None:
            mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = self.out(y.transpose(1, 2).contiguous().view(batch, length, -1).to(torch.float32))
        return self.norm(y.transpose(1, 2))


@pytest.mark.parametrize("additive", [False, True])
def test_a_text_of_padding_alone_attends_to_nothing(additive):
    torch.manual_seed(0)
    network = Attention(additive).eval()
    given = {"x": torch.randn(2, 5, 8), "attention_mask": torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0]])}
    model = portnet.capture(network, given)
    assert [port.name for port in model.inputs] == ["x", "attention_mask"]
    assert model.parameter_count == sum(p.numel() for p in network.parameters())
    expected = network(**given).detach().numpy()
    feed = {name: tensor.numpy() for name, tensor in given.items()}
    for run in (Session(model).run, *(portnet.engine(name).lower(model).run for name in ("torch", "keras", "gluon"))):
        (got,) = run(feed).values()
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


class Biased(nn.Module):
    """T5's attention: scores have a learned bias for each distance."""

    def __init__(self):
        super().__init__()
        self.linear, self.bias = nn.Linear(8, 8), nn.Embedding(4, 2)

    def forward(self, x):
        batch, length, _ = x.shape
        q = self.linear(x).view(batch, -1, 2, 4).transpose(1, 2)
        bias = self.bias(torch.zeros(length, length, dtype=torch.long)).permute(2, 0, 1)[None]
        y = scaled_dot_product_attention(q, q, q, attn_mask=bias)
        return y.transpose(1, 2).contiguous().view(batch, length, -1)


def test_what_is_decomposed_may_lie_another_way(monkeypatch):
    """The attention's parts give another layout than attention itself, which the view behind it was traced with."""
    monkeypatch.setattr(exporting._Undecomposed, "of", lambda program: 1 / 0)
    monkeypatch.setattr("portnet_torch.capturing.translations.TABLE", {})
    model = portnet.capture(Biased(), torch.randn(2, 5, 8))
    assert model.parameter_count == 8 * 9 + 4 * 2


def test_arguments_by_name_must_suffice():
    with pytest.raises(InputError, match="got example inputs attention_mask, expected x as well"):
        portnet.capture(Attention(), {"attention_mask": torch.ones(2, 5)})


class Together(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, *both):
        return self.inner(both[0] + both[1])


def test_the_batch_of_any_number_of_arguments_is_free():
    model = portnet.capture(Together(), (torch.zeros(1, 3), torch.zeros(1, 3)))
    lowered = portnet.engine("torch").lower(model)
    names = [port.name for port in model.inputs]
    for batch in (1, 4):
        (got,) = lowered.run({name: np.ones((batch, 3), np.float32) for name in names}).values()
        assert got.shape == (batch, 2)
    with pytest.raises(ModelError, match=r"got shape \(4, 1\), expected .*×3"):
        lowered.run({name: np.ones((4, 1), np.float32) for name in names})
