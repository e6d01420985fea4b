"""What is measured after a run and added to its bundle."""

import base64

import pytest

from erpo_hub.errors import UsageError, UserError
from erpo_hub.publish.addition import add_transplant, check_addition
from erpo_hub.publish.bundle import add_figure, build_bundle
from erpo_hub.publish.check import check_bundle
from erpo_hub.record.format import Figure, read_record
from erpo_hub.record.recovery import ANYWHERE, FIRST, RANDOM, Recovered, TransplantResult
from tests.hub_server.sample_run import example_run, fake_weights

RESULT = TransplantResult(
    base="/home/me/models/base", task="builtin:expressions", n=200, accuracy=(0.5, 0.7), changed=0.1,
    recovered=[Recovered(r, 1, 0.6, 0.5, (0.4, 0.6), 1.0, (1.0, 1.0)) for r in (FIRST, RANDOM, ANYWHERE)],
)  # fmt: skip

PICTURE = (  # one grey point
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def draw(path):
    path.write_bytes(base64.b64decode(PICTURE))


@pytest.fixture
def bundle(tmp_path):
    return build_bundle(example_run(), fake_weights(tmp_path / "w"), tmp_path / "bundle").folder


def test_record_figure_and_card_change_together_and_the_bundle_stays_publishable(bundle):
    card = bundle / "README.md"
    card.write_text(card.read_text() + "\nMy own words.\n")
    for _ in range(2):  # again, in place of what was there
        add_transplant(bundle, RESULT, draw)
    record = read_record(bundle)
    assert [f.kind for f in record.figures].count("transplant") == 1
    assert record.transplant.base == "base"  # a path of this machine keeps its last part
    assert record.transplant.at(FIRST, 1).share == 0.5
    text = card.read_text()
    assert text.count("## Which tokens training changed") == 1
    assert text.endswith("My own words.\n")
    assert "](figures/transplant.png)" in text
    assert check_bundle(bundle) == []


def test_a_card_that_somebody_edited_is_left_alone_with_everything_else(bundle):
    card = bundle / "README.md"
    add_transplant(bundle, RESULT, draw)
    card.write_text(card.read_text().replace("Taking 1 token", "Taking one token"))
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    other = TransplantResult("base", "t", 10, (0.1, 0.2), 0.3)
    with pytest.raises(UserError, match="edited"):
        add_transplant(bundle, other, draw)
    assert before == {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def test_only_the_bundle_of_that_model_will_do(bundle, tmp_path):
    check_addition(bundle, tmp_path / "w")
    with pytest.raises(UsageError, match="does not hold the weights"):
        check_addition(bundle, fake_weights(tmp_path / "other", value=2))
    with pytest.raises(UsageError, match="is not a bundle"):
        check_addition(tmp_path, tmp_path / "w")


@pytest.mark.parametrize("add", ["transplant", "figure"])
def test_nothing_is_drawn_through_a_link_in_a_strangers_bundle(bundle, tmp_path, add):
    decode = Figure("decode", "figures/decode.png", "a picture", "A picture.")

    def put():
        return (
            add_transplant(bundle, RESULT, draw) if add == "transplant" else add_figure(bundle, decode, draw)
        )

    picture, outside = (
        bundle / "figures" / {"figure": "decode.png"}.get(add, "transplant.png"),
        tmp_path / "mine",
    )
    outside.mkdir()
    (outside / "letter.txt").write_text("mine")
    picture.symlink_to(outside / "letter.txt")
    put()
    assert (outside / "letter.txt").read_text() == "mine"
    assert not picture.is_symlink()
    assert check_bundle(bundle) == []
    picture.unlink()
    picture.mkdir()
    with pytest.raises(UserError, match="is a folder"):
        put()
    (bundle / "figures").rename(bundle / "old")
    (bundle / "figures").symlink_to(outside)
    before = (bundle / "run.json").read_bytes(), (bundle / "README.md").read_bytes()
    with pytest.raises(UserError, match="figures is a link or a file"):
        put()
    assert [path.name for path in outside.iterdir()] == ["letter.txt"]
    assert before == ((bundle / "run.json").read_bytes(), (bundle / "README.md").read_bytes())
    if add == "transplant":  # told before the study
        with pytest.raises(UserError, match="figures is a link or a file"):
            check_addition(bundle, tmp_path / "w")
