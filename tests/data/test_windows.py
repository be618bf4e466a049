"""wavenet.data.windows: pure in (seed, i), on the hop, with the mel of the whole file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from wavenet import MelConfig, WaveNet, WaveNetConfig, log_mel
from wavenet.data import Corpus, CorpusError, Utterance, WindowPlan, Windows
from wavenet.data.windows import collate

RATE = 8000
HOP = 40


def utterance(n_samples: int, name: str = "a", speaker: str = "") -> Utterance:
    draw = np.random.default_rng(n_samples)
    samples = draw.integers(-20000, 20000, n_samples, dtype=np.int16)
    return Utterance(name, samples, speaker)


def corpus(*lengths: int) -> Corpus:
    return Corpus(tuple(utterance(n, name=str(i)) for i, n in enumerate(lengths)), RATE)


def mel_config(padding: str) -> MelConfig:
    return MelConfig(
        sample_rate=RATE,
        n_fft=128,
        win_samples=100,
        hop_samples=HOP,
        n_mels=8,
        f_max_hz=RATE / 2,
        padding="hop" if padding == "hop" else "center",
    )


def config(**changes: object) -> WaveNetConfig:
    small = {"layers_per_stack": 6, "stacks": 1, "residual_channels": 2, "skip_channels": 2}
    return WaveNetConfig.from_dict({"sample_rate": RATE, **small, **changes})


def plan(length: int = 200, padding: str | None = None) -> WindowPlan:
    changes = {} if padding is None else {"mel": mel_config(padding)}
    return WindowPlan.of(WaveNet(config(**changes)), length / RATE)


def windows(lengths: list[int], *, n_windows: int = 300, seed: int = 0, **of: object) -> Windows:
    return Windows(corpus(*lengths), plan(**of), n_windows=n_windows, seed=seed)


# --- the plan ---


@pytest.mark.parametrize("window_s", [0.0001, 0.02, 0.0251, 1.0])
def test_lengths_are_whole_hops_and_the_warm_up_exceeds_the_past(window_s: float) -> None:
    model = WaveNet(config(mel=mel_config("hop")))
    made = WindowPlan.of(model, window_s)
    assert made.hop == HOP
    assert made.length % HOP == made.warm_up % HOP == 0
    assert 0 <= made.length - window_s * RATE < HOP
    assert model.past < made.warm_up <= model.past + HOP


def test_without_a_mel_a_window_may_start_anywhere() -> None:
    made = plan(123)
    assert (made.length, made.hop, made.warm_up) == (123, 1, 64)  # past is 1 + 2 + ... + 32 = 63


@pytest.mark.parametrize(
    ("changes", "window_s", "message"),
    [
        ({}, 0.0, "window_s=0.0 must be positive"),
        ({}, float("nan"), "window_s=nan must be positive"),
        ({}, float("inf"), "window_s=inf must be positive and finite"),
        ({"speakers": 3}, 0.1, "model.speakers=3 without speaker_names: .* set speakers_by_folder"),
    ],
)
def test_what_audio_files_cannot_train_is_refused(
    changes: dict[str, object], window_s: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        WindowPlan.of(WaveNet(config(**changes)), window_s)


# --- which windows ---


def test_window_i_is_a_function_of_seed_and_i_alone() -> None:
    few, many = windows([5000, 900], n_windows=50), windows([5000, 900], n_windows=300)
    forwards = [few.place(i) for i in range(50)]
    backwards = [many.place(i) for i in reversed(range(50))][::-1]
    assert [(u.name, start) for u, start in forwards] == [(u.name, start) for u, start in backwards]
    for i in (49, 0, 7):
        assert torch.equal(few[i]["x"], many[i]["x"])
    other = windows([5000, 900], n_windows=50, seed=1)
    assert [start for _, start in forwards] != [other.place(i)[1] for i in range(50)]


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_makes_the_same_batches(workers: int) -> None:
    data = windows([5000, 900], n_windows=12, padding="hop")
    alone = list(DataLoader(data, 4))
    shared = list(DataLoader(data, 4, num_workers=workers))
    assert len(alone) == len(shared) == 3
    for one, other in zip(alone, shared, strict=True):
        assert one.keys() == other.keys() == {"x", "mask", "mel", "frame"}
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("padding", ["hop", "center"])
def test_windows_start_on_a_hop_from_the_first_to_the_one_that_reaches_the_end(
    padding: str,
) -> None:
    data = windows([1013], padding=padding)
    starts = {data.place(i)[1] for i in range(300)}
    assert starts == set(range(0, 1013 - 200 + HOP, HOP))


def test_utterances_are_drawn_in_proportion_to_their_lengths_the_short_ones_too() -> None:
    data = windows([3000, 850, 150], n_windows=2000)
    counts = np.bincount([int(data.place(i)[0].name) for i in range(2000)])
    share = np.array([3000, 850, 150]) / 4000
    deviation = np.sqrt(2000 * share * (1 - share))
    assert (abs(counts - 2000 * share) < 4 * deviation).all()


@pytest.mark.parametrize("padding", [None, "hop"])
def test_windows_made_together_are_those_made_one_by_one(padding: str | None) -> None:
    data = windows([5000, 900, 57], padding=padding)
    indices = [7, 0, 299, 7, 31]
    rows = data.__getitems__(indices)
    batch = collate(rows)
    copied = default_collate([data[i] for i in indices])
    assert len(rows) == 5
    assert batch.keys() == copied.keys()
    for key, value in copied.items():
        assert torch.equal(batch[key], value), key
        assert batch[key].dtype == value.dtype
    assert all(torch.equal(rows[2][key], data[299][key]) for key in batch)
    assert collate([data[3]]).keys() == batch.keys()  # what other loaders hand over


def test_an_index_outside_is_an_index_error() -> None:
    data = windows([500], n_windows=3)
    assert len(list(data)) == len(data) == 3  # as iteration over a sequence relies on
    with pytest.raises(IndexError, match="index=-1 must be within 0 to 2"):
        data[-1]


# --- what is in them ---


def test_x_is_the_recording_after_its_past_and_the_mask_is_one_inside_it() -> None:
    data = windows([300])  # starts 0 to 100; 64 samples of warm-up, 200 to predict
    whole = torch.cat([torch.zeros(64), data.corpus.utterances[0].audio(0, 300), torch.zeros(200)])
    for i in range(30):
        start = data.place(i)[1]
        assert torch.equal(data[i]["x"][0], whole[start : start + 264])
        inside = torch.arange(start - 64, start + 200)
        assert torch.equal(data[i]["mask"][0], ((inside >= 0) & (inside < 300)).float())


def test_of_a_file_shorter_than_a_window_all_is_there_and_the_rest_is_marked() -> None:
    data = windows([57])
    for i in range(5):
        assert data.place(i)[1] == 0
        assert data[i]["mask"].sum() == 57
        assert torch.equal(data[i]["x"][0, 64 : 64 + 57], data.corpus.utterances[0].audio(0, 57))
        assert not data[i]["x"][0, 64 + 57 :].any()


def rows_of_the_whole(whole: Tensor, first: int, count: int) -> Tensor:
    """Rows first to first + count of [M, F], where those at the ends go on."""
    return whole[:, torch.arange(first, first + count).clamp(0, whole.shape[1] - 1)]


@pytest.mark.parametrize("padding", ["hop", "center"])
@pytest.mark.parametrize("n_samples", [1, 57, 130, 300, 1013, 4000, 30000])
def test_the_mel_of_a_window_is_rows_of_the_whole_files_mel(padding: str, n_samples: int) -> None:
    data = windows([n_samples], padding=padding)
    mel = data.plan.mel
    assert mel is not None
    whole = log_mel(data.corpus.utterances[0].audio(0, n_samples), mel)
    places = {data.place(i)[1]: i for i in range(300)}
    edges = sorted(places)[:4] + sorted(places)[-4:]
    for start in {*edges, *list(places)[:20]}:
        item, context = data[places[start]], data.plan.context_frames
        first, count = (start - data.plan.warm_up) // HOP - context, item["mel"].shape[-1]
        assert count == (data.plan.warm_up + data.plan.length) // HOP + 2 * context
        # the same arithmetic on the same samples; only the sums of the matrix product may group
        torch.testing.assert_close(
            item["mel"], rows_of_the_whole(whole, first, count), rtol=1e-5, atol=1e-5
        )
        columns = (item["frame"] + first).tolist()
        assert columns == np.clip(range(first, first + count), 0, whole.shape[1] - 1).tolist()


def test_the_speaker_is_the_index_of_the_folder() -> None:
    model = WaveNet(config(speakers=2, speaker_names=["mary", "john"]))
    parts = (utterance(300, "mary/1", "mary"), utterance(300, "john/1", "john"))
    data = Windows(Corpus(parts, RATE), WindowPlan.of(model, 0.01), n_windows=20, seed=0)
    for i in range(20):
        assert data[i]["speaker"] == ("mary", "john").index(data.place(i)[0].speaker)


def test_a_speaker_that_the_model_does_not_know_is_named() -> None:
    model = WaveNet(config(speakers=2, speaker_names=["mary", "john"]))
    parts = (utterance(300, "jane/1", "jane"),)
    with pytest.raises(
        CorpusError, match=r"speaker 'jane' of the corpus is not among the model's \["
    ):
        Windows(Corpus(parts, RATE), WindowPlan.of(model, 0.01), n_windows=20, seed=0)
