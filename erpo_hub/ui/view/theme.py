"""How the app looks: system fonts (nothing is fetched), one orange, the CSS of the page and of its views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import facts, group_view, overview_view, transplant_view
from .token_view import style

if TYPE_CHECKING:
    import gradio as gr

_SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

_PAGE = """
.gradio-container { max-width: 1480px !important; width: 100%; margin: 0 auto; }
.gradio-container > main, .gradio-container .wrap { width: 100%; }
#erpo-head h1 { font-size: 22px; margin: 6px 0 0; }
#erpo-head p { margin: 2px 0 6px; max-width: 150ch; }
.erpo-note { font-size: 14px; color: var(--body-text-color-subdued); }
.erpo-hidden { position: absolute !important; width: 1px; height: 1px; overflow: hidden; }
.erpo-curve { min-height: 250px; }
.erpo-branch:has(.tv-empty) { display: none; }
.erpo-ask-row { align-items: flex-end; }
.erpo-ask-buttons, .erpo-ask-buttons > .row { gap: 6px !important; flex-wrap: nowrap !important; }
#drawer.erpo-closed:not([data-open="yes"]), #drawer[data-open="no"] { display: none; }
.erpo-tools button { flex-grow: 0; white-space: nowrap; min-width: max-content !important; }
.secondary-wrap > input[role="combobox"] { text-overflow: ellipsis; padding-right: 30px !important; }
footer .divider { display: none; }
@media (max-width: 640px) {
  #erpo-head p { display: none; }
  #erpo-head h1 { font-size: 18px; margin: 0; }
  .erpo-ask-row { gap: 6px !important; }
  #prompt textarea { max-height: 3.4em !important; }
}
.erpo-curve .js-plotly-plot, .erpo-curve .plot-container { width: 100% !important; }
.erpo-error { color: #b91c1c; font-weight: 600; }
.dark .erpo-error { color: #fca5a5; }
#runs-plot { overflow-x: auto; }
#runs-plot .js-plotly-plot, #runs-plot .plot-container { min-width: 800px; }
#card-preview table { display: block; overflow-x: auto; border: 0; }
#card-preview th, #card-preview td { overflow-wrap: normal; word-break: normal; padding: 5px 8px; }
#card-preview td { min-width: 9ch; }
#card-preview code { white-space: pre-wrap; overflow-wrap: anywhere; }
#card-preview td code { overflow-wrap: normal; }
#card-preview pre { white-space: pre-wrap; overflow-wrap: anywhere; overflow: visible !important; }
#card-preview pre code { white-space: inherit; overflow-wrap: inherit; overflow: visible !important; }
#tabs button[role="tab"].selected { color: #9a3412; }
.dark #tabs button[role="tab"].selected { color: #fdba74; }
#card-preview pre .token { color: inherit; background: none; }
#card-preview img { max-width: 100%; }
footer { opacity: 0.85; }
"""


def css() -> str:
    """All CSS of the app."""
    views = style() + group_view.style() + overview_view.style() + transplant_view.style()
    return _PAGE + facts.CSS + views


def theme() -> gr.themes.Base:
    """Gradio's plain theme in our colors; text contrast at least 4.5 in both modes."""
    import gradio as gr

    return gr.themes.Base(
        primary_hue=gr.themes.colors.orange,
        secondary_hue=gr.themes.colors.zinc,
        neutral_hue=gr.themes.colors.zinc,
        font=_SANS,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_sm,
    ).set(
        button_primary_background_fill="#b4410e",
        button_primary_background_fill_hover="#8f340b",
        button_primary_background_fill_dark="#b4410e",
        button_primary_background_fill_hover_dark="#8f340b",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        link_text_color="#9a3412",
        link_text_color_dark="#fdba74",
        block_label_text_color="#3f3f46",
        block_label_text_color_dark="#d4d4d8",
        block_title_text_color="#27272a",
        block_title_text_color_dark="#e4e4e7",
        block_info_text_color="#52525b",
        block_info_text_color_dark="#b4b4bd",
        body_text_color_subdued="#52525b",
        body_text_color_subdued_dark="#b4b4bd",
        slider_color="#b4410e",
        checkbox_background_color_selected="#b4410e",
        checkbox_background_color_selected_dark="#b4410e",
    )
