"""What PortNet switches in torch for a while, which is the whole process's: it is put back, whatever it was."""

import sys

import pytest
import torch
from portnet_torch.capturing.modes import quiet
from portnet_torch.exact import exact
from torch import nn

import portnet
from portnet.errors import InputError

MATMUL, CONV, RNN = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
KINDS = (MATMUL, torch.backends.mkldnn.matmul, CONV, RNN)


def precisions():
    return [kind.fp32_precision for kind in KINDS]


@pytest.fixture
def switches():
    before, everywhere = precisions(), torch.backends.fp32_precision
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.fp32_precision = everywhere
    for kind, precision in zip(KINDS, before, strict=True):
        kind.fp32_precision = precision


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize(
    "turn",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
        lambda: setattr(MATMUL, "fp32_precision", "tf32"),
        lambda: setattr(CONV, "fp32_precision", "ieee"),
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    ],
    ids=["nothing", "older", "older, convolutions", "newer", "newer, convolutions", "newer, everything"],
)
def test_cuda_computes_in_the_precision_asked_for_whatever_the_user_has_set(turn, tf32):
    turn()
    before = precisions()
    with exact("cuda:0", tf32=tf32):
        assert precisions() == ["tf32" if tf32 else "ieee"] * 4
        # torch raises an error where these contradict the newer switches
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        assert torch.backends.cudnn.allow_tf32 == tf32
        assert torch.backends.cudnn.deterministic
    assert precisions() == before
    assert not torch.backends.cudnn.deterministic


def test_what_is_written_is_heard_again_whichever_thread_ends_first(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    first, second = quiet(), quiet()
    first.__enter__()
    second.__enter__()
    print("unheard", file=sys.stderr)
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    print("heard", file=sys.stderr)
    assert capsys.readouterr().err == "heard\n"


def test_a_network_whose_weights_have_no_numbers_is_refused():
    with pytest.raises(InputError, match="got weight, bias on the meta device"):
        portnet.capture(nn.Linear(2, 3, device="meta"), torch.zeros(2, 2))
