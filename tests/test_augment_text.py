"""Augmentation as one word of a command line, in settings, and from the command line to the run."""

import json

import pytest

from portnet.cli.app import app
from portnet.data import Augment
from portnet.data.augment_text import is_augmentation, parse
from portnet.errors import InputError
from portnet.finetuning.settings import Settings

EVERYTHING = Augment(rotate=10, crop=(0.3, 1), brightness=0.4, hue=0.1, trivial=True, mixup=0.2, cutmix=1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", Augment()),
        ("flip", Augment.only(horizontal_flip=True)),
        ("default,mixup", Augment(mixup=0.2)),
        ("rotate:15, scale:0.8-1.2,translate:4", Augment.only(rotate=15, scale=(0.8, 1.2), translate=4)),
        ("resized-crop", Augment.only(crop=(0.08, 1.0))),
        ("resized-crop:0.5,trivial", Augment.only(crop=(0.5, 1.0), trivial=True)),
        ("jitter", Augment.only(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)),
        ("jitter:0.2,hue:0", Augment.only(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.0)),
        ("mixup:0.3,cutmix", Augment.only(mixup=0.3, cutmix=1.0)),
    ],
)
def test_text_means(text, expected):
    assert parse(text) == Augment.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flop", "unknown augmentation 'flop'. Did you mean 'flip'"),
        ("", "unknown augmentation ''"),
        ("flip:2", "got 'flip:2'"),
        ("rotate:ten", "got 'rotate:ten'"),
        ("rotate:-1", "got rotate -1.0"),
        ("scale:1.2-0.8", "got scale"),
        ("resized-crop:0.5-2", "at most 1"),
        ("hue:0.7", "at most 0.5"),
        ("mixup:nan", "got mixup nan"),
    ],
)
def test_text_that_means_nothing_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        parse(text)


def test_a_folder_is_not_taken_for_an_augmentation():
    assert is_augmentation("flip,rotate:10")
    assert not is_augmentation("photos/")


def test_settings_keep_it_word_for_word():
    settings = Settings("squeezenet1_1", augment=EVERYTHING)
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert [Augment.of(given) for given in (None, False, True, "flip")] == [None, None, Augment(), parse("flip")]


@pytest.mark.parametrize(
    ("arguments", "augment", "data"),
    [
        (["{}", "--augment"], "default", "{}"),
        (["--augment", "{}"], "default", "{}"),
        (["{}", "--augment", "--epochs", "3"], "default", "{}"),
        (["{}", "--augment", "flip,rotate:10"], "flip,rotate:10", "{}"),
        (["--augment", "flop", "{}"], "flop", "{}"),
        (["{}"], None, "{}"),
    ],
)
def test_the_option_may_stand_alone(tmp_path, monkeypatch, arguments, augment, data):
    seen = {}
    monkeypatch.setattr("portnet.finetuning.api.finetune", lambda data, **options: seen.update(options, data=data))
    with pytest.raises(AttributeError):  # there is no run to tell of
        app(["finetune", *(argument.format(tmp_path) for argument in arguments)], standalone_mode=False)
    assert (seen["augment"], seen["data"]) == (augment, data.format(tmp_path))


def test_a_mistyped_augmentation_is_one_line(digits, capsys):
    with pytest.raises(SystemExit) as end:
        main_with(["finetune", str(digits), "--augment", "flop"])
    assert end.value.code == 2
    assert "portnet: unknown augmentation 'flop'. Did you mean 'flip'" in capsys.readouterr().err


def main_with(arguments):
    import sys
    from unittest import mock

    from portnet.cli import main

    with mock.patch.object(sys, "argv", ["portnet", *arguments]):
        main()
