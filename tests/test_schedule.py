"""Schedules against PyTorch's, and what the command line makes of them."""

import pytest
from small_runs import small_images, small_settings

import portnet
from portnet.errors import InputError, UnknownNameError
from portnet.finetuning.schedule import Schedule

STEPS = 40


def rates(make):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


PEERS = {
    "constant": (Schedule("constant"), lambda s, o: s.ConstantLR(o, factor=1.0)),
    "step": (Schedule("step", step_size=7, gamma=0.3), lambda s, o: s.StepLR(o, 7, 0.3)),
    "cosine": (Schedule("cosine"), lambda s, o: s.CosineAnnealingLR(o, STEPS)),
    # PyTorch reaches its ends at whole steps: the peak at 0.3·S − 1, the end at S − 1
    "one-cycle": (
        Schedule("one-cycle"),
        lambda s, o: s.OneCycleLR(o, 1.0, total_steps=STEPS + 1, pct_start=(0.3 * STEPS + 1) / (STEPS + 1)),
    ),
    "warm-up": (Schedule("constant", warmup=8), lambda s, o: s.LinearLR(o, 1 / 8, 1.0, total_iters=7)),
    "warm-up, then cosine": (
        Schedule("cosine", warmup=8),
        lambda s, o: s.SequentialLR(
            o, [s.LinearLR(o, 1 / 8, 1.0, total_iters=7), s.CosineAnnealingLR(o, STEPS - 8)], milestones=[8]
        ),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEERS)
def test_schedules_equal_those_of_pytorch(name):
    schedule, make = PEERS[name]
    assert [schedule.factor(step, STEPS) for step in range(STEPS)] == pytest.approx(rates(make), abs=1e-9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cosine", Schedule("cosine", warmup=3)),
        ("step:7", Schedule("step", warmup=3, step_size=7)),
        ("step:7:0.5", Schedule("step", warmup=3, step_size=7, gamma=0.5)),
    ],
)
def test_schedules_are_read(text, expected):
    assert Schedule.parse(text, warmup=3) == expected == Schedule.parse(expected.text, warmup=3)


@pytest.mark.parametrize(
    ("text", "error"),
    [("sine", UnknownNameError), ("cosine:3", InputError), ("step:x", InputError), ("step:1:2:3", InputError)],
)
def test_what_is_no_schedule_is_refused(text, error):
    with pytest.raises(error, match="schedule"):
        Schedule.parse(text)


@pytest.mark.parametrize(("warmup", "told"), [(3, False), (4, True)])
def test_a_warm_up_that_is_not_over_when_the_run_is_is_told(warmup, told, capsys):
    settings = small_settings(backend="torch", epochs=1, warmup=warmup, progress=True)
    portnet.finetune(small_images(), **settings)
    assert ("the learning rate does not reach what was asked for" in " ".join(capsys.readouterr().out.split())) == told
