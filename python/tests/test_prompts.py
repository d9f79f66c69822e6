"""Every kind of model, and every kind of prompt."""

import json

import numpy as np
import pytest

import r1seg
from conftest import CASES, QUESTION, program


def test_an_answer_streams_and_says_what_it_found(encoded):
    pieces, events = [], []
    result = encoded.ask(QUESTION, name="liver", on_text=pieces.append, on_event=events.append)
    assert "".join(pieces) == result.text == "Sure, it is[SEG]."
    kinds = [event.kind for event in events]
    assert kinds[0] == "prompt" and kinds[-1] == "mask" and kinds.count("text") == len(pieces)
    (answer,) = result.answers
    assert (answer.name, answer.status, answer.finish_reason) == ("liver", "found", "stop")
    assert result.labels == {1: "liver"} and result.found
    assert 0.5 < answer.seg_probabilities[0] <= 1.0
    assert result.report["masks"][0]["voxels"] == int(result.mask.sum())
    assert result.report["research_use_only"] is True
    assert result.preview().startswith(b"\x89PNG") and result._repr_png_() == result.preview()
    assert "W-DEMO" in [warning.code for warning in result.warnings]


def test_several_questions_at_once_are_answered_as_alone(encoded, tmp_path, phantom):
    questions = [QUESTION, "Can you segment the spleen in this image?", "Where is the aorta?"]
    results = encoded.ask_many(questions)
    for question, result in zip(questions, results, strict=True):
        alone = encoded.ask(question)
        assert result.text == alone.text
        assert (result.mask is None) == (alone.mask is None)
        assert result.mask is None or np.array_equal(result.mask, alone.mask)
    joined = r1seg.join(results)
    assert [answer.label for answer in joined.answers] == [1, 2, 3]
    joined.save(tmp_path / "joined")
    options = [part for question in questions for part in ("-p", question)]
    program("infer", "-m", "demo", "-i", phantom, *options, "-o", tmp_path / "program")
    for name in ("mask.nii.gz", "labels.json", "answer.txt", "mask.seg.nrrd"):
        ours, theirs = (tmp_path / folder / name for folder in ("joined", "program"))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_organs_are_asked_for_by_name_in_any_language(encoded):
    result = encoded.segment(organs=["liver", "Milz"])
    assert result.labels == {1: "liver", 2: "spleen"}
    assert set(np.unique(result.mask)) == {0, 1, 2}
    assert np.array_equal(result.mask_of("spleen"), result.mask == 2)
    assert np.array_equal(result.mask_of(1), encoded.ask(organ="Leber").mask)
    with pytest.raises(r1seg.errors.UsageError, match="did you mean pancreas"):
        encoded.segment(organs="pancras")


@pytest.fixture(scope="module")
def small():
    """Intensities of nothing in particular, as an array (z, y, x)."""
    return np.random.default_rng(5).integers(-900, 900, (40, 44, 48)).astype(np.int16)


def test_points_are_indices_of_the_mask(small):
    model = r1seg.load(CASES / "segvol", num_clicks=0)
    affine = np.diag([2.0, 2.0, 2.5, 1.0])
    slices = model.encode(small, spacing=(2.5, 2.0, 2.0), mode="resize")
    columns = model.encode(np.ascontiguousarray(small.T), affine=affine, mode="resize")
    by_slices = slices.segment("liver", points=[(30, 20, 10)], box=((20, 10, 4), (36, 30, 20)))
    by_columns = columns.segment("liver", points=[(10, 20, 30)], box=((4, 10, 20), (20, 30, 36)))
    assert np.array_equal(by_slices.mask, by_columns.mask.T)
    in_mm = columns.segment("liver", points_mm=[(20.0, 40.0, 75.0)], box=((4, 10, 20), (20, 30, 36)))
    assert np.array_equal(in_mm.mask, by_columns.mask)
    with pytest.raises(r1seg.errors.UsageError, match="2 point_labels"):
        slices.segment("liver", points=[(1, 2, 3)], point_labels=[1, 0])
    with pytest.raises(r1seg.Error, match="40"):
        slices.segment("liver", points=[(40, 0, 0)])


def test_classes_are_numbers_or_names_and_keep_their_numbers(small):
    model = r1seg.load(CASES / "vista3d")
    assert model.classes[1] == "liver"
    encoded = model.encode(small, affine=np.diag([1.5, 1.5, 1.5, 1.0]), axes="zyx")
    result = encoded.segment(classes=["spleen", 1])
    assert result.labels == {3: "spleen", 1: "liver"}
    clicked = encoded.segment(classes="liver", points=[(20, 20, 20)])
    assert clicked.labels == {1: "liver"}
    everything = encoded.segment(everything=True)
    assert everything.labels[6] == "aorta" and len(everything.labels) > 4
    with pytest.raises(r1seg.Error, match="liver"):
        encoded.segment(classes="livr")


def test_a_mask_is_corrected_from_an_array_or_a_result(small):
    model = r1seg.load(CASES / "sam-med3d")
    encoded = model.encode(small, affine=np.diag([1.5, 1.5, 1.5, 1.0]), axes="zyx")
    first = encoded.segment(points=[(20, 22, 24)])
    earlier = np.zeros(small.shape, bool)
    earlier[15:25, 15:25, 15:25] = True
    second = encoded.segment(points=[(20, 22, 24)], mask=earlier)
    assert second.mask.shape == first.mask.shape == small.shape
    with pytest.raises(r1seg.Error):
        encoded.segment(points=[(20, 22, 24)], mask=earlier[:-1])
    with pytest.raises(r1seg.errors.UsageError, match="no voxel"):
        encoded.segment(points=[(20, 22, 24)], mask=np.zeros(small.shape, np.uint8))


def test_volumes_and_texts_become_vectors_of_length_one(small):
    model = r1seg.load(CASES / "m3d-clip")
    vectors = [model.embed(small), model.embed(text="A cyst in the left kidney.")]
    for vector in vectors:
        assert vector.dtype == np.float32 and abs(np.linalg.norm(vector) - 1) < 1e-5
    for wrong in ({}, {"volume": small, "text": "both"}):
        with pytest.raises(r1seg.errors.UsageError, match="one thing"):
            model.embed(**wrong)
    with pytest.raises(r1seg.Error, match="M3D-CLIP"):
        model.encode(small)


def test_what_a_model_does_not_do_is_refused_with_what_to_do(encoded, small):
    segvol = r1seg.load(CASES / "segvol").encode(small)
    with pytest.raises(r1seg.errors.UsageError, match="answers no questions"):
        segvol.ask("Where is the liver?")
    for wrong in (
        lambda: encoded.ask(),
        lambda: encoded.ask(QUESTION, organ="liver"),
        lambda: encoded.ask(""),
        lambda: encoded.ask(QUESTION, temperature=-1.0),
        lambda: encoded.ask(QUESTION, seed=3),
        lambda: encoded.ask(QUESTION, separator="tab"),
        lambda: encoded.ask(QUESTION, max_new_tokens=0),
        lambda: encoded.segment(),
        lambda: encoded.segment(classes="liver"),
        lambda: encoded.segment(points=[(1, 2, 3)]),
        lambda: r1seg.join([]),
    ):
        with pytest.raises(r1seg.Error) as raised:
            wrong()
        assert raised.value.fix and raised.value.code.startswith("R-")


def test_draws_repeat_with_their_seed(encoded):
    def drawn(seed):
        return encoded.ask("Describe the image.", temperature=3.0, top_k=0, seed=seed, max_new_tokens=12).text

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(6)}) > 1


def test_the_models_are_listed():
    known = {model["name"]: model for model in r1seg.models()}
    assert "R1Seg-3D-Phi-3-4B" in known["R1Seg-3D"]["published"]
    assert known["VISTA3D"]["outputs"] == ["mask"]


def test_a_model_that_reads_slices_takes_their_features():
    recorded = CASES / "hsenet-phi4" / "golden"
    case = json.loads((recorded / "case0.json").read_text())
    model = r1seg.load(CASES / "hsenet-phi4")
    features = recorded / case["slice_features"]
    encoded = model.encode(recorded / case["volume"], preprocess="none", slice_features=features)
    result = encoded.ask(case["question"], max_new_tokens=case["max_new_tokens"])
    assert result.text == case["text"] and result.mask is None
    array = encoded.slice_features
    assert np.array_equal(array, np.load(features))
    again = model.encode(recorded / case["volume"], preprocess="none", slice_features=array)
    assert again.ask(case["question"], max_new_tokens=case["max_new_tokens"]).text == case["text"]
    with pytest.raises(r1seg.errors.UsageError, match="slices"):
        model.encode(recorded / case["volume"], preprocess="none", slice_features=array[:-1])
