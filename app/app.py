"""The app for development: `python app/app.py [RUNS, MODELS or TRACES ...]`."""

import sys

from erpo_hub.ui.command import run_app

run_app(sys.argv[1:] or ["spaces/inspector/traces"])
