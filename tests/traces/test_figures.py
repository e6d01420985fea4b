"""Both drawings show the same data, and neither reads text as markup."""

import subprocess
import sys

from test_trace import make_trace

from erpo_hub.traces.figures import entropy_curve, entropy_data, entropy_png, visible


def test_the_plotly_curve_shows_the_data():
    t = make_trace(40).with_pivots()
    data, figure = entropy_data(t), entropy_curve(t)
    assert list(figure.data[0].y) == t.entropy == data.entropy
    assert list(figure.data[0].customdata) == list(range(40))
    assert list(figure.data[1].x) == t.pivots == data.pivots
    assert all(t.entropy[i] > data.edge for i in data.pivots)
    figure.to_json()


def test_hostile_tokens_stay_text():
    t = make_trace(2, pieces=["<b>", "${x}"], completion="<b>${x}", strings={0: "<b>", 1: "${x}"})
    assert entropy_curve(t).data[0].text[0] == "&lt;b&gt;"


def test_labels_are_never_empty():
    assert [visible(s) for s in ("\n", "  a ", "", "\t")] == ["↵", "␣␣a␣", "∅", "⇥"]


def test_the_running_mean_is_centred_and_keeps_a_constant():
    assert entropy_data(make_trace(30, entropy=[1.0] * 30)).smooth == [1.0] * 30


def test_the_png_is_a_png_for_any_length(tmp_path):
    for n in (0, 1, 50):
        file = entropy_png(make_trace(n), tmp_path / f"{n}.png", title="a $ b_{")
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_traces_are_readable_without_torch():
    code = (
        "import sys, erpo_hub.traces.trace, erpo_hub.traces.figures, erpo_hub.traces.pivots;"
        "sys.exit(bool({'torch', 'matplotlib', 'plotly'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
